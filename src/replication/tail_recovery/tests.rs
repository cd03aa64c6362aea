//! A start in made-up time: who is asked, for how long, and when it leads.

use super::*;
use crate::{
    base::clock::LoggedTime,
    data::store::{DedupLimits, StateId, Store},
    replication::AppendOutcome,
    storage::file_header::DatabaseIdentity,
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::RecoveryReport,
    text::tokenizer::Analyzer,
};

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

/// A leader's files, which end at record 10 of epoch 3.
fn recovered() -> RecoveredDatabase {
    let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    store.set_state_id(StateId { position: Position::new(3, 10), ..StateId::default() }, LoggedTime::ZERO);
    let state = ManifestState {
        epoch: 3,
        boot_id: "boot".into(),
        replicas: vec!["b".into(), "c".into(), "a".into()],
        ..ManifestState::default()
    };
    let manifest = Manifest { identity: IDENTITY, state };
    RecoveredDatabase { manifest, store, report: RecoveryReport::default(), new: false, promised: None, open: None }
}

fn starter() -> StartingNode {
    let (url, boot_id) = ("a".to_owned(), "boot".to_owned());
    StartingNode { url, boot_id, named: Vec::new(), told_to_follow: None, init: false, elected: None }
}

fn elected(force: bool) -> Option<ElectedLeader> {
    let promised = vec![Position::new(3, 12)];
    Some(ElectedLeader { epoch: 9, node: 1, others: vec!["b".into()], promised, force })
}

fn answer(epoch: Epoch, sequence: Sequence) -> Result<AppendAnswer, ProbeError> {
    let hello =
        NodeState { node: 2, database: Some(7), epoch, position: Position::new(3, sequence), ..NodeState::default() };
    Ok(AppendAnswer { outcome: AppendOutcome::Applied, hello })
}

/// Runs it in made-up time; `answers` says what a node answers. Gives how long it took, who was asked, and the end.
fn run(
    starter: StartingNode,
    recovered: &mut RecoveredDatabase,
    mut answers: impl FnMut(&str, u64) -> Result<AppendAnswer, ProbeError>,
) -> (u64, Vec<String>, TailAction) {
    let (mut now_ms, mut asked) = (0, Vec::new());
    let mut recovery = TailRecovery::new(starter, recovered, now_ms);
    loop {
        match recovery.poll(recovered, now_ms) {
            TailAction::Ask(url, _, _) => {
                asked.push(url.clone());
                recovery.answered(&url, answers(&url, now_ms), now_ms);
            }
            TailAction::Fetch(..) => recovery.fetched(Ok(None), recovered),
            TailAction::Wait(until_ms) => {
                assert!(until_ms > now_ms, "it waits for nothing");
                now_ms = until_ms;
            }
            TailAction::Alarm(_) => {}
            end @ (TailAction::ReadAgain | TailAction::Lead | TailAction::Refused(_)) => {
                return (now_ms, asked, end);
            }
        }
    }
}

#[test]
fn a_leader_that_stopped_here_asks_the_others_and_leads_in_the_next_epoch() {
    let mut recovered = recovered();
    let (took_ms, asked, end) = run(starter(), &mut recovered, |_, _| answer(3, 10));
    assert_eq!((took_ms, asked, end), (0, vec!["b".into(), "c".into()], TailAction::Lead), "not itself");
    assert_eq!((recovered.promised, recovered.manifest.state.leader_url.as_deref()), (None, Some("a")));
}

#[test]
fn a_node_that_does_not_answer_is_asked_again_until_the_patience_is_over() {
    let silent = |url: &str, _| match url {
        "b" => Err(ProbeError::MayPass("busy".into())),
        _ => Err(ProbeError::NotThere),
    };
    let (took_ms, asked, end) = run(starter(), &mut recovered(), silent);
    assert_eq!((took_ms, end), (SHORT_PATIENCE_MS, TailAction::Lead));
    assert_eq!(asked.iter().filter(|url| *url == "b").count() as u64, SHORT_PATIENCE_MS / PAUSE_MS);
    assert_eq!(asked.iter().filter(|url| *url == "c").count(), 1);
    let rebooted = StartingNode { boot_id: "another".into(), ..starter() };
    assert_eq!(run(rebooted, &mut recovered(), silent).0, PATIENCE_MS, "the log may have lost its end");
}

#[test]
fn a_leader_follows_where_a_later_epoch_was_seen_or_promised() {
    let (_, _, end) = run(starter(), &mut recovered(), |url, _| answer(if url == "c" { 4 } else { 3 }, 10));
    assert!(matches!(end, TailAction::Refused(TailRefusal::Succeeded { by: None, .. })), "{end:?}");
    let mut promised = recovered();
    promised.manifest.state.promised = 5;
    let (_, asked, end) = run(starter(), &mut promised, |_, _| answer(3, 10));
    assert!(asked.is_empty() && matches!(end, TailAction::Refused(TailRefusal::Succeeded { .. })), "{end:?}");
}

#[test]
fn a_tail_that_cannot_be_had_keeps_a_leader_from_leading_once_its_patience_is_over() {
    let (took_ms, _, end) = run(starter(), &mut recovered(), |_, _| answer(3, 11));
    let TailAction::Refused(TailRefusal::NotLeader(why)) = end else { panic!("{end:?}") };
    assert!(took_ms == PATIENCE_MS && why.contains("ends at record 10") && why.contains("no longer has"), "{why}");
}

#[test]
fn an_elected_node_waits_for_those_who_have_promised_and_leads_without_them_by_force() {
    let gone = |_: &str, _| Err(ProbeError::NotThere);
    let (took_ms, asked, end) = run(StartingNode { elected: elected(false), ..starter() }, &mut recovered(), gone);
    assert!(took_ms > HAND_OVER_PATIENCE_MS && asked.iter().all(|url| url == "b"), "{took_ms}");
    assert!(matches!(end, TailAction::Refused(TailRefusal::NotLeader(_))), "{end:?}");
    let mut recovered = recovered();
    let (took_ms, _, end) = run(StartingNode { elected: elected(true), ..starter() }, &mut recovered, gone);
    assert_eq!((took_ms, end, recovered.promised), (0, TailAction::Lead, Some(9)));
    assert_eq!(recovered.manifest.state.replicas, ["b"]);
}

#[test]
fn an_elected_node_whose_begin_failed_behind_the_manifest_leads_in_the_epoch_after_its_own() {
    let elected = || StartingNode { elected: elected(false), ..starter() };
    let begun = |boot_id: &str| {
        let mut recovered = recovered();
        let state = &mut recovered.manifest.state;
        state.epochs.end(Position::new(3, 10));
        (state.epoch, state.boot_id, state.replicas) = (9, boot_id.into(), vec!["b".into()]);
        recovered
    };
    // The MANIFEST was renamed, the sync of the directory found no room, and the files are read again.
    let mut recovered = begun("boot");
    let (_, asked, end) = run(elected(), &mut recovered, |_, _| answer(9, 10));
    assert_eq!((asked, end, recovered.promised), (vec!["b".into()], TailAction::Lead, None));
    // What a follower has noted of that epoch is of a leader that was quicker.
    let (_, _, end) = run(elected(), &mut begun(""), |_, _| answer(9, 10));
    assert!(matches!(end, TailAction::Refused(TailRefusal::Succeeded { .. })), "{end:?}");
    // So is a later epoch that another has seen meanwhile.
    let (_, _, end) = run(elected(), &mut begun("boot"), |_, _| answer(10, 10));
    assert!(matches!(end, TailAction::Refused(TailRefusal::Succeeded { .. })), "{end:?}");
}

#[test]
fn an_empty_directory_is_no_leader_while_a_node_holds_a_database_or_does_not_say() {
    let new = || RecoveredDatabase { new: true, ..recovered() };
    let named = StartingNode { named: vec!["b".into()], ..starter() };
    let holds = |url: &str, _| if url == "b" { answer(3, 11) } else { Err(ProbeError::NotThere) };
    let (_, _, end) = run(named.clone(), &mut new(), holds);
    assert!(matches!(end, TailAction::Refused(TailRefusal::NotLeader(why)) if why.contains("is empty")));
    let (_, _, end) = run(named.clone(), &mut new(), |_, _| Err(ProbeError::Strange("403".into())));
    assert!(matches!(end, TailAction::Refused(TailRefusal::NotLeader(why)) if why.contains("cannot be told")));
    let (_, asked, end) = run(StartingNode { init: true, ..named }, &mut new(), holds);
    assert!(asked.is_empty() && end == TailAction::Lead);
}

#[test]
fn a_follower_does_not_lead_whatever_the_verb_and_whoever_is_away() {
    let mut recovered = recovered();
    recovered.manifest.state.boot_id.clear();
    recovered.manifest.state.leader_url = Some("b".into());
    assert!(!leads_at_start(Some(&recovered.manifest), true));
    let (_, asked, end) = run(starter(), &mut recovered, |_, _| Err(ProbeError::NotThere));
    assert!(asked.is_empty(), "{asked:?}");
    assert!(matches!(end, TailAction::Refused(TailRefusal::Succeeded { by: Some(by), .. }) if by == "b"));
}

#[test]
fn a_node_that_led_the_latest_epoch_leads_again_whatever_the_verb() {
    let mut recovered = recovered();
    assert!(leads_at_start(Some(&recovered.manifest), false));
    let named = vec!["its --leader".to_owned()];
    let (_, asked, end) = run(StartingNode { named, ..starter() }, &mut recovered, |_, _| answer(3, 10));
    assert_eq!((asked.len(), end), (3, TailAction::Lead), "it asks whom its settings name too");
    recovered.manifest.state.promised = 4;
    assert!(!leads_at_start(Some(&recovered.manifest), true), "it has stood down");
    assert!(leads_at_start(None, true) && !leads_at_start(None, false), "the verb is how a directory begins");
}

#[test]
fn a_node_that_led_does_not_lead_while_whom_it_is_told_to_follow_leads_another_database() {
    let told = StartingNode { named: vec!["b".into()], told_to_follow: Some("b".into()), ..starter() };
    let other = |url: &str, _| {
        let mut answer = answer(3, 10)?;
        (answer.hello.database, answer.hello.leads) = (Some(8), url == "b");
        Ok(answer)
    };
    let (_, _, end) = run(told.clone(), &mut recovered(), other);
    assert!(matches!(end, TailAction::Refused(TailRefusal::Succeeded { by: Some(by), .. }) if by == "b"));
    let by_verb = StartingNode { told_to_follow: None, ..told };
    assert_eq!(
        run(by_verb, &mut recovered(), other).2,
        TailAction::Lead,
        "who leads nobody's database it leads itself"
    );
}

#[test]
fn a_leader_does_not_list_itself_as_a_replica() {
    let mut recovered = recovered();
    assert!(recovered.manifest.state.replicas.contains(&"a".to_owned()), "as its leader told it");
    let (_, _, end) = run(starter(), &mut recovered, |_, _| answer(3, 10));
    assert_eq!((end, &*recovered.manifest.state.replicas), (TailAction::Lead, &["b".to_owned(), "c".to_owned()][..]));
}
