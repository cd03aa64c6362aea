//! What a leader that starts asks its replicas, and takes back from them. As `src/node/take_back.rs`.

use crate::{bug::Bug, cluster::Cluster, machines::Process, network::Place};
use memdb::{
    format::Identity,
    position::{Epoch, Position},
    recovery::Recovered,
    replication::{Choice, ExtendError, Hello, Offer, choose, extend},
};

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All there is.
    All,
    /// Not all: who has it does not give it.
    Some,
    /// Nothing: another has led in a later epoch.
    Nothing,
}

impl Cluster {
    /// Whoever is to lead asks the others, and takes from those that have more.
    pub fn take_back(
        &mut self,
        at: Place,
        recovered: &mut Recovered,
        promised: Option<Epoch>,
    ) -> Result<Taken, String> {
        if recovered.new {
            return Ok(Taken::All);
        }
        let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
        let question = Offer::ask(identity, promised.unwrap_or(epoch)).encode_head();
        let mut hellos = Vec::new();
        for seat in self.known_by(&recovered.manifest) {
            if seat == at || !self.reaches(at, seat) {
                continue;
            }
            let answer = match self.nodes[seat].leading() {
                Some(_) => self.ask_leader(seat, &question)?,
                None => self.ask(at, seat, &question)?,
            };
            hellos.extend(answer.map(|answer| (seat, answer.hello)));
        }
        self.take_from_those(at, recovered, hellos, promised)
    }

    /// Takes from those that have more of the last epoch, first from who has the most.
    fn take_from_those(
        &mut self,
        at: Place,
        recovered: &mut Recovered,
        answered: Vec<(Place, Hello)>,
        promised: Option<Epoch>,
    ) -> Result<Taken, String> {
        let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
        let may_have_seen = promised.unwrap_or(epoch);
        let of_it = answered.iter().filter(|(_, hello)| hello.position.epoch == epoch && !hello.diverged);
        let most = of_it.map(|(_, hello)| hello.position.sequence).max().unwrap_or(0);
        let before = recovered.store.mark().position.sequence;
        let (seats, hellos): (Vec<Place>, Vec<Hello>) = answered.into_iter().unzip();
        match choose(&hellos, identity.database_id, epoch, before, may_have_seen) {
            _ if self.bug == Some(Bug::TakesNothingBack) => {}
            Choice::Nobody => {}
            Choice::HigherEpoch(other, seen) => {
                self.note(format_args!("{at} does not lead behind {epoch}: {} has seen {seen}", seats[other]));
                return Ok(Taken::Nothing);
            }
            Choice::From(ahead) => {
                for other in ahead {
                    self.take_from(recovered, seats[other], hellos[other].position.sequence)?;
                }
                if recovered.store.mark().position.sequence < most {
                    // The operator stops that replica for this start: to lead without those records is asked for.
                    self.tally("tails that could not be taken back");
                    return Ok(Taken::Some);
                }
            }
        }
        let after = recovered.store.mark().position.sequence;
        self.note(format_args!("{at} took {} records back behind {before}", after - before));
        if after < most {
            return Err(format!("a replica that was there had {most}, and the leader went on behind {after}"));
        }
        Ok(Taken::All)
    }

    /// Takes what one replica gives, until this log has what it has.
    fn take_from(&mut self, recovered: &mut Recovered, seat: Place, last: u64) -> Result<(), String> {
        let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
        while recovered.store.mark().position.sequence < last {
            let position = recovered.store.mark().position;
            let records = self.records_of(seat, position, &identity).filter(|records| !records.is_empty());
            let Some(records) = records else { return Ok(()) };
            match extend(&mut recovered.store, &identity, epoch, &records) {
                Ok(_) => {}
                Err(ExtendError::Foreign(why)) => {
                    self.note(format_args!("{seat} gives what does not go on: {why}"));
                    return Ok(());
                }
                Err(ExtendError::Diverged(why)) => return Err(why),
            }
            recovered.report.clean = false;
            self.tally("tails taken back");
        }
        Ok(())
    }

    fn records_of(&mut self, seat: Place, after: Position, identity: &Identity) -> Option<Vec<u8>> {
        let (archive, last) = match &self.nodes[seat].process {
            Process::None => return None,
            Process::Leads(leading) => (&leading.archive, leading.position()),
            Process::Follows(following) => (&following.archive, following.position()?),
        };
        let records = archive.records(after.sequence, last.sequence, identity).ok()??;
        Some(records.concat())
    }
}
