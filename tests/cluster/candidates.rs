//! `memdb promote`: a replica asks the nodes it knows where they stand, has them promise its epoch, takes back what they
//! have more, and leads. A question at a step, so that anything happens in between.

use crate::{
    cluster::{Cluster, ended},
    disk::SimDisk,
    leader::{place_of, url_of},
    network::{PLACES, Place},
    taking::Taken,
};
use memdb::{
    disk::Disk,
    position::{Epoch, Position},
    recovery,
    replication::{Answer, Asked, Hello, NodeId, Offer, candidacy, has_promised, holds_nothing, lacks},
};
use std::sync::Arc;

/// A replica that is about to lead.
pub struct Candidate {
    forced: bool,
    /// This run of it, by which it is known to those who promise.
    node: NodeId,
    /// The highest epoch it has seen.
    seen: Epoch,
    /// Those that are still to be asked.
    left: Vec<Place>,
    /// What they have answered.
    asked: Vec<Asked>,
    /// The epoch that it has them promise, once it has asked all.
    epoch: Option<Epoch>,
    promised: Vec<(Place, Hello)>,
}

impl Cluster {
    /// Somebody says `memdb promote` to a replica.
    pub fn promote(&mut self, at: Place, forced: bool) {
        let configured = self.settings.configured;
        let Some(following) = self.nodes[at].following_mut() else { return };
        if following.candidate.is_some() || self.database.is_none() {
            return;
        }
        let known = following.members.clone();
        let is_known = |place: Place| configured || known.contains(&place);
        let left: Vec<Place> = (0..PLACES).filter(|&place| place != at && is_known(place)).collect();
        let Hello { node, epoch: seen, .. } = following.replica.hello();
        let (asked, promised) = Default::default();
        following.candidate = Some(Candidate { forced, node, seen, left, asked, epoch: None, promised });
        self.note(format_args!("{at} is promoted{}", if forced { " by force" } else { "" }));
        self.tally(if forced { "forced promotions begun" } else { "promotions begun" });
    }

    /// A candidate asks the next, or has asked all.
    pub fn step_candidate(&mut self, at: Place) -> Result<(), String> {
        let Some(following) = self.nodes[at].following_mut() else { return Ok(()) };
        let Some(mut candidate) = following.candidate.take() else { return Ok(()) };
        let identity = self.database.expect("it follows somebody");
        let me = following.replica.hello();
        if let Some(other) = candidate.left.pop() {
            self.question(at, other, &mut candidate)?;
            return self.stays(at, candidate);
        }
        match candidate.epoch {
            None => match candidacy(&me, &candidate.asked, candidate.forced, self.random.next()) {
                Ok(epoch) => {
                    self.note(format_args!("{at} wants to lead in {epoch}"));
                    candidate.epoch = Some(epoch);
                    candidate.left = candidate.asked.iter().filter_map(|asked| place_of(&asked.url)).collect();
                    let promise = Offer::promise(identity, epoch, candidate.node, &url_of(at)).encode_head();
                    let own = self.ask(at, at, &promise)?;
                    if own.is_some_and(|answer| has_promised(&answer, epoch)) {
                        return self.stays(at, candidate);
                    }
                    self.tally("promotions without a promise");
                    Ok(())
                }
                Err(why) => {
                    self.note(format_args!("{at} is not promoted: {why}"));
                    self.tally("promotions refused");
                    Ok(())
                }
            },
            Some(epoch) => self.takes_the_lead(at, &candidate, epoch),
        }
    }

    /// Asks one node where it stands, or for its promise.
    fn question(&mut self, at: Place, other: Place, candidate: &mut Candidate) -> Result<(), String> {
        let identity = self.database.expect("it follows somebody");
        let question = match candidate.epoch {
            None => Offer::ask(identity, candidate.seen),
            Some(epoch) => Offer::promise(identity, epoch, candidate.node, &url_of(at)),
        };
        self.sworn_to = candidate.epoch.unwrap_or(0);
        let answer = self.asks(at, other, &question.encode_head());
        self.sworn_to = 0;
        let answer = answer?;
        let Some(epoch) = candidate.epoch else {
            let hello = answer.map(|answer| answer.hello);
            let is_leader = self.nodes[at].follows == other || hello.as_ref().is_some_and(|hello| hello.leads);
            candidate.asked.push(Asked { url: url_of(other), is_leader, hello });
            return Ok(());
        };
        let me = self.nodes[at].following().map(|following| following.replica.hello());
        let counts =
            |answer: &Answer| has_promised(answer, epoch) || me.as_ref().is_some_and(|me| holds_nothing(answer, me));
        if let Some(answer) = answer.filter(counts) {
            candidate.promised.push((other, answer.hello));
        }
        Ok(())
    }

    /// The candidate goes on with the next step, unless its process has ended.
    fn stays(&mut self, at: Place, candidate: Candidate) -> Result<(), String> {
        if let Some(following) = self.nodes[at].following_mut().filter(|it| it.replica.hello().node == candidate.node) {
            following.candidate = Some(candidate);
        }
        Ok(())
    }

    /// A question to any node; the network may lose it, or the answer.
    fn asks(&mut self, from: Place, to: Place, question: &[u8]) -> Result<Option<Answer>, String> {
        if !self.network.gets_through(from, to) || !self.is_awake(to) {
            return Ok(None);
        }
        let answer = if self.nodes[to].leading().is_some() {
            self.ask_leader(to, question)?
        } else {
            self.ask(from, to, question)?
        };
        self.bury()?;
        Ok(answer.filter(|_| self.network.gets_through(to, from)))
    }

    /// Everybody has been asked: it leads, from its files on.
    fn takes_the_lead(&mut self, at: Place, candidate: &Candidate, epoch: Epoch) -> Result<(), String> {
        // Who was silent before was reckoned with.
        let has = |place: Option<Place>| candidate.promised.iter().any(|(other, _)| Some(*other) == place);
        let mut answered = candidate.asked.iter().filter(|asked| asked.hello.is_some());
        if !answered.all(|asked| has(place_of(&asked.url))) {
            self.note(format_args!("{at} is not promoted: not all have promised {epoch}"));
            self.tally("promotions without a promise");
            return Ok(());
        }
        let position = self.nodes[at].following().filter(|it| it.keeps()).and_then(|following| following.position());
        ended(self, at);
        let disk: Arc<dyn Disk> = {
            let node = &mut self.nodes[at];
            node.machine.lock().kill();
            node.killed_at = position.or(node.killed_at);
            Arc::new(SimDisk::new(&node.machine))
        };
        let met = self.nodes[at].machine.lock().met;
        let looked = recovery::look_follower(&*disk, self.settings.window);
        self.note_events();
        let mut recovered = match looked {
            Ok(Some(recovered)) => recovered,
            Ok(None) => return Ok(()), // its files have been given up
            Err(error) => return self.did_not_start(at, &error, met),
        };
        self.truth.recovered(&format!("candidate {at}"), &recovered.store.reader(), recovered.stands())?;
        self.check_kept(at, recovered.stands())?;
        if recovered.manifest.state.highest() > epoch {
            self.tally("promotions that end before they lead"); // it has promised a later one since
            return Ok(());
        }
        match self.take_back(at, &mut recovered, Some(epoch))? {
            Taken::All => {}
            Taken::Some if candidate.forced => {}
            Taken::Some | Taken::Nothing => {
                self.tally("promotions that end before they lead");
                return Ok(());
            }
        }
        let told = candidate.promised.iter().map(|(_, hello)| hello.position);
        if lacks(told, recovered.stands()).is_some() && !candidate.forced {
            self.tally("promotions that end before they lead");
            return Ok(());
        }
        let from = recovered.stands();
        self.truth.recovered(&format!("candidate {at}"), &recovered.store.reader(), from)?;
        if !candidate.forced {
            self.loses_nothing(at, from, &candidate.promised)?;
        }
        recovered.promote(epoch);
        recovered.manifest.state.replicas = candidate.asked.iter().map(|asked| asked.url.clone()).collect();
        recovered.manifest.state.leader_url = Some(url_of(at));
        let boot = format!("boot {}", self.nodes[at].boots);
        let settled = recovered.settle(&disk, boot, self.settings.segment_bytes);
        self.note_events();
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return self.did_not_start(at, &error, met),
        };
        self.tally(if candidate.forced { "forced promotions" } else { "promotions" });
        let perils = &mut self.witness.perils;
        perils.promoted = true;
        perils.led_without_all |= candidate.forced || candidate.promised.len() < PLACES - 1;
        self.is_the_leader_now(at);
        self.lead(at, candidate.node, disk, settled, from)
    }

    /// Who is promoted without force has all that those have who have promised, unless it was lost before.
    fn loses_nothing(&self, at: Place, found: Position, promised: &[(Place, Hello)]) -> Result<(), String> {
        for (other, hello) in promised {
            let theirs = hello.position;
            if hello.diverged || theirs.epoch < found.epoch {
                continue;
            }
            if let Some(id) = self.truth.entry_at(theirs)?
                && !self.truth.holds(found, id)
            {
                return Err(format!("{at} leads from {found} on, and {other}, which promised it, was at {theirs}"));
            }
        }
        Ok(())
    }

    /// The operator writes down who leads from now on; perhaps not everywhere.
    fn is_the_leader_now(&mut self, at: Place) {
        for place in 0..PLACES {
            if place == at || self.random.percent(80) {
                self.nodes[place].is_to_lead = place == at;
            }
            if place != at {
                self.nodes[place].follows = at;
            }
        }
    }
}
