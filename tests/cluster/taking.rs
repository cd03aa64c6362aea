//! What a leader that starts asks its replicas, and takes back from them. As `src/node/take_back.rs`.

use crate::{
    bug::Bug,
    cluster::Cluster,
    leader::url_of,
    network::{PLACES, Place},
};
use memdb::{
    format::Identity,
    position::Position,
    recovery::Recovered,
    replication::{Choice, Hello, Offer, choose, extend},
};

impl Cluster {
    /// Asks the replicas, and takes from those that have more, first who has the most.
    pub fn take_back(&mut self, at: Place, recovered: &mut Recovered) -> Result<(), String> {
        let state = &recovered.manifest.state;
        if recovered.new {
            return Ok(());
        }
        let (identity, epoch) = (recovered.manifest.identity, state.epoch);
        let question = Offer::ask(identity, epoch).encode_head();
        let known = state.replicas.clone();
        let asked: Vec<Place> = (0..PLACES)
            .filter(|&seat| seat != at && (self.settings.configured || known.contains(&url_of(seat))))
            .filter(|&seat| self.reaches(at, seat))
            .collect();
        // What the one with the most has, whatever it says.
        let most = asked.iter().filter_map(|&seat| self.nodes[seat].following()?.position());
        let most = most.filter(|at| at.epoch == epoch).map(|at| at.sequence).max().unwrap_or(0);
        let mut hellos: Vec<(Place, Hello)> = Vec::new();
        for seat in asked {
            if let Some(answer) = self.ask(at, seat, &question)? {
                hellos.push((seat, answer.hello));
            }
        }
        let before = recovered.store.mark().position.sequence;
        let (seats, hellos): (Vec<Place>, Vec<Hello>) = hellos.into_iter().unzip();
        let diverged = hellos.iter().any(|hello| hello.diverged);
        let choice = choose(&hellos, identity.database_id, epoch, before, epoch);
        let mut gave_up = false;
        match choice {
            _ if self.bug == Some(Bug::TakesNothingBack) => {}
            Choice::Nobody => {}
            Choice::HigherEpoch(at, seen) => {
                return Err(format!("replica {} has seen epoch {seen}, the leader wrote {epoch} last", seats[at]));
            }
            Choice::From(ahead) => {
                let wanted = hellos[ahead[0]].position.sequence;
                for at in ahead {
                    self.take_from(recovered, seats[at], hellos[at].position.sequence)?;
                }
                if recovered.store.mark().position.sequence < wanted {
                    // The operator stops that replica for this start: to lead without those records is asked for.
                    gave_up = true;
                    self.tally("tails that could not be taken back");
                }
            }
        }
        let after = recovered.store.mark().position.sequence;
        self.note(format_args!("took {} records back behind {before}", after - before));
        if after < most && !gave_up && !diverged {
            return Err(format!("a replica that was there had {most}, and the leader went on behind {after}"));
        }
        Ok(())
    }

    /// Takes what one replica gives, until this log has what it has.
    fn take_from(&mut self, recovered: &mut Recovered, seat: Place, last: u64) -> Result<(), String> {
        let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
        while recovered.store.mark().position.sequence < last {
            let position = recovered.store.mark().position;
            let records = self.records_of(seat, position, &identity).filter(|records| !records.is_empty());
            let Some(records) = records else { return Ok(()) };
            extend(&mut recovered.store, &identity, epoch, &records).map_err(|error| error.to_string())?;
            recovered.report.clean = false;
            self.tally("tails taken back");
        }
        Ok(())
    }

    fn records_of(&mut self, seat: Place, after: Position, identity: &Identity) -> Option<Vec<u8>> {
        let process = self.nodes[seat].following()?;
        let last = process.position()?.sequence;
        let records = process.archive.records(after.sequence, last, identity).ok()??;
        Some(records.concat())
    }
}
