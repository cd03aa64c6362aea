//! `memdb inspect` and `memdb repair`: the files of a database that is not running.

use crate::output::{CommandError, CommandResult, GroupedNumber, say, tell};
use memdb::{
    base::limits,
    base::position::Position,
    data::store::DedupLimits,
    storage::disk::{Disk, RealDisk},
    storage::file_header::{DatabaseIdentity, FileKind},
    storage::inspect::{FileContents, FileInspection, LogContents, SnapshotContents, inspect as look_into},
    storage::manifest::ManifestState,
    storage::recovery::{RecoveredDatabase, look},
    storage::repair::{RepairPlan, plan},
    text::tokenizer::Analyzer,
};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

const INSPECT_EXAMPLES: &str = "\
EXAMPLES
  memdb inspect ./data
  memdb inspect ./data/MANIFEST
  memdb inspect ./data --json

Reads only, and may be run beside a running leader; the end of the log may then be in motion.

Exits 0 if everything is whole, 1 if not, 2 on wrong usage.";

/// Show what a file of a database holds, and whether it is whole.
#[derive(clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectArguments {
    /// A database directory, or one file of it.
    path: PathBuf,

    /// As JSON, a line for each file, then one for the directory.
    #[arg(long)]
    json: bool,
}

const REPAIR_EXAMPLES: &str = "\
EXAMPLES
  memdb repair ./data          shows what would be lost, and asks
  memdb repair ./data --yes
  memdb repair ./data --yes --json

Cuts what cannot be read, so that the node starts again. Stop it first, and copy the directory. What is cut is \
kept beside the rest, in files that end in .damaged.

A leader without replicas leads again. Any other node follows until `memdb promote`: replicas may have what was cut, and \
where the MANIFEST had to be made anew, nothing tells who led.

Exits 0 if a node can start on it, 1 if not, 2 on wrong usage.";

/// Cut what cannot be read out of a damaged database, after saying exactly what is lost.
#[derive(clap::Args)]
#[command(after_help = REPAIR_EXAMPLES)]
pub struct RepairArguments {
    /// The database directory.
    directory: PathBuf,

    /// Do not ask.
    #[arg(long, short)]
    yes: bool,

    /// As JSON: a line {"plan"}, which is null if there is nothing to repair, and after the repair a line {"repaired"}.
    #[arg(long)]
    json: bool,
}

pub fn inspect(arguments: &InspectArguments) -> CommandResult {
    let path = &arguments.path;
    let show = |found: &FileInspection| {
        if arguments.json {
            say(&as_json(found).to_string())
        } else {
            found_lines(found).iter().try_for_each(|line| say(line))
        }
    };
    if !path.is_dir() {
        let (disk, name) = in_its_directory(path)?;
        let found = look_into(&disk, &name).map_err(|error| CommandError::Failed(error.to_string()))?;
        show(&found)?;
        return found.damage.map_or(Ok(()), |damage| Err(CommandError::Failed(damage.to_string())));
    }
    let disk = open(path)?;
    let holder = disk.holder().map_err(|error| cannot_use(path, &error))?;
    if let Some(process) = &holder {
        tell(&format!("process {process} uses this directory: the end of the log may be in motion"));
    }
    // What is half written at one moment is whole at the next.
    let tries = if holder.is_some() { 5 } else { 1 };
    let mut damaged = 0;
    for name in disk.list().map_err(|error| cannot_use(path, &error))? {
        let is_whole = |found: &Result<FileInspection, _>| found.as_ref().is_ok_and(|found| found.damage.is_none());
        match until(tries, is_whole, || look_into(&disk, &name)) {
            Ok(found) => {
                damaged += u64::from(found.damage.is_some());
                show(&found)?;
            }
            // A running leader removes what it no longer needs.
            Err(_) if disk.open(&name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {}
            Err(error) => return Err(CommandError::Failed(error.to_string())),
        }
    }
    verdict(&disk, tries, damaged, arguments.json)
}

/// Tries until the answer is as hoped, so many times at most.
fn until<T>(tries: u32, is_hoped: impl Fn(&T) -> bool, mut attempt: impl FnMut() -> T) -> T {
    let mut answer = attempt();
    for _ in 1..tries {
        if is_hoped(&answer) {
            break;
        }
        answer = attempt();
    }
    answer
}

/// Reports what a start would make of the directory.
fn verdict(disk: &RealDisk, tries: u32, damaged: u64, as_json: bool) -> CommandResult {
    let is_whole =
        |looked: &Result<RecoveredDatabase, _>| looked.as_ref().is_ok_and(|found| found.report.cut.is_none());
    let looked = until(tries, is_whole, || look(disk, NOBODY, DedupLimits::default()));
    if as_json {
        say(&match &looked {
            Ok(RecoveredDatabase { new: true, .. }) => json!({"verdict": "empty"}),
            Ok(RecoveredDatabase { store, report, manifest, .. }) => json!({
                "verdict": "recovers",
                "position": manifest.identity.token(store.mark().position).to_string(),
                "report": report.to_string(),
                "cut_bytes": report.cut.as_ref().map_or(0, |cut| cut.lost_bytes),
            }),
            Err(error) => json!({"verdict": "refused", "error": error.to_string()}),
        }
        .to_string())?;
    }
    let recovered = looked.map_err(|error| {
        CommandError::Failed(format!("a start would be refused: {error}\n`memdb repair` shows what could be kept"))
    })?;
    if !as_json {
        say(&match &recovered {
            RecoveredDatabase { new: true, .. } => "\nno database: a start would make a new one".to_owned(),
            RecoveredDatabase { store, report, manifest, .. } => {
                format!("\na start recovers {}: {report}", manifest.identity.token(store.mark().position))
            }
        })?;
    }
    match (recovered.report.cut, damaged) {
        (None, 0) if recovered.report.harmless.is_empty() => Ok(()),
        (None, 0) => Err(CommandError::Failed("not whole: damage that costs nothing".into())),
        (Some(cut), _) => Err(CommandError::Failed(format!("not whole: {}", cut.damage))),
        (None, files) => Err(CommandError::Failed(format!("not whole: {files} damaged, none of which is needed"))),
    }
}

/// An identity for a database that is never made.
const NOBODY: DatabaseIdentity =
    DatabaseIdentity { database_id: 0, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0 };

fn open(path: &Path) -> Result<RealDisk, CommandError> {
    RealDisk::existing(path).map_err(|error| cannot_use(path, &error))
}

fn cannot_use(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot use {}: {error}", path.display()))
}

fn in_its_directory(path: &Path) -> Result<(RealDisk, String), CommandError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| CommandError::Usage(format!("{} is no file", path.display())))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((open(parent)?, name.to_owned()))
}

/// A file as lines for a person.
fn found_lines(found: &FileInspection) -> Vec<String> {
    let at = |position| shown(found, position);
    let mut lines = vec![format!("{}  {} bytes", found.name, GroupedNumber(found.bytes))];
    let mut add = |name: &str, value: String| lines.push(format!("  {name:<13}{value}"));
    if let FileContents::Other(why) = found.holds {
        add("", why.to_owned());
        return lines;
    }
    if let Some(header) = &found.header {
        let DatabaseIdentity { database_id, shard_id, analyzer, .. } = header.identity;
        add("database", format!("{database_id:032x}, shard {shard_id}, analyzer {analyzer} {}", analyzer.version()));
    }
    match &found.holds {
        FileContents::Manifest(state) => manifest_lines(state, &at, &mut add),
        FileContents::Log(held) => log_lines(held, &at, &mut add),
        FileContents::Snapshot(held) => snapshot_lines(held, &at, &mut add),
        FileContents::Other(_) | FileContents::Unreadable => {}
    }
    match &found.damage {
        Some(damage) => add("DAMAGED", format!("at byte {}: {}", damage.offset, damage.what)),
        None => add("whole", "yes".to_owned()),
    }
    if let FileContents::Log(LogContents { records_behind_damage: behind @ 1.., .. }) = found.holds {
        add("behind it", format!("{} whole records", GroupedNumber(behind)));
    }
    lines
}

/// A position of the file's database, as its clients see it.
fn shown(found: &FileInspection, position: Position) -> String {
    found.header.as_ref().map_or_else(|| position.to_string(), |header| header.identity.token(position).to_string())
}

fn manifest_lines(state: &ManifestState, at: &impl Fn(Position) -> String, add: &mut impl FnMut(&str, String)) {
    add("epoch", state.epoch.to_string());
    let ended: Vec<String> = state.epochs.ended().iter().rev().take(8).map(|&ended| at(ended)).collect();
    add("ended", if ended.is_empty() { "none".into() } else { format!("{} (newest first)", ended.join(" ")) });
    add(
        "last stop",
        state.clean_stop.map_or("not a clean one, or running".into(), |end| format!("clean, at {}", at(end))),
    );
    add("generation", state.generation.to_string());
    add("boot", state.boot_id.clone());
    let (name, incarnation) = (&state.node_name, state.incarnation);
    add("node name", if name.is_empty() { "none: the next start gives one".into() } else { name.clone() });
    add(
        "incarnation",
        if incarnation == 0 { "none: the next start draws one".into() } else { format!("{incarnation:016x}") },
    );
    if let Some(url) = &state.leader_url {
        add("leader", url.clone());
    }
    if !state.replicas.is_empty() {
        add("replicas", state.replicas.join(" "));
    }
}

fn log_lines(held: &LogContents, at: &impl Fn(Position) -> String, add: &mut impl FnMut(&str, String)) {
    let with_entries = GroupedNumber(held.records_with_entries);
    add("records", format!("{}, {with_entries} of them with entries", GroupedNumber(held.records)));
    if let Some((first, last)) = held.span {
        add("first", format!("{}, {}", at(first.position), utc(first.time_ms.as_ms())));
        add("last", format!("{}, {}", at(last.position), utc(last.time_ms.as_ms())));
        add("synced", format!("up to record {}, as far as these records state", held.synced_upto));
    }
}

fn snapshot_lines(held: &SnapshotContents, at: &impl Fn(Position) -> String, add: &mut impl FnMut(&str, String)) {
    let SnapshotContents { trailer, namespaces, window: (keys, streams) } = held;
    add("state at", format!("{}, digest {:016x}", at(trailer.end.position), trailer.end.digest));
    let (words, entries) = (GroupedNumber(trailer.words), GroupedNumber(trailer.entries));
    add("walked from", format!("{}, {words} words and {entries} entries in the image", at(trailer.start.position)));
    for (name, distinct) in namespaces {
        add("namespace", format!("{name}: {} distinct words", GroupedNumber(distinct)));
    }
    add("window", format!("{} keys, {} streams", GroupedNumber(keys), GroupedNumber(streams)));
}

/// A moment as `2026-11-21 03:15:20.123 UTC` (days to dates after Howard Hinnant's `civil_from_days`).
fn utc(time_ms: u64) -> String {
    let (days, ms) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let shifted = days + 719_468; // days since 0000-03-01, so that a leap day ends its year
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03} UTC")
}

/// A file for a program.
fn as_json(found: &FileInspection) -> Value {
    let mut value = json!({
        "file": found.name,
        "bytes": found.bytes,
        "whole": found.damage.is_none(),
        "damage": found.damage.as_ref().map(|damage| json!({"offset": damage.offset, "what": damage.what})),
    });
    if let Some(header) = &found.header {
        value["kind"] = kind_name(header.kind).into();
        value["database"] = format!("{:032x}", header.identity.database_id).into();
        value["shard"] = header.identity.shard_id.into();
        value["analyzer"] = header.identity.analyzer.name().into();
        value["analyzer_version"] = header.identity.analyzer.version().into();
    }
    match &found.holds {
        FileContents::Manifest(state) => {
            value["epoch"] = state.epoch.into();
            value["epochs_ended"] = state.epochs.ended().iter().map(|&ended| shown(found, ended)).collect();
            value["clean_stop"] = state.clean_stop.map(|end| shown(found, end)).into();
            value["generation"] = state.generation.into();
            value["boot_id"] = state.boot_id.clone().into();
            value["node_name"] = Some(&state.node_name).filter(|name| !name.is_empty()).cloned().into();
            value["incarnation"] = (state.incarnation != 0).then(|| format!("{:016x}", state.incarnation)).into();
        }
        FileContents::Log(held) => {
            value["records"] = held.records.into();
            value["records_with_entries"] = held.records_with_entries.into();
            value["synced_upto"] = held.synced_upto.into();
            if let Some((first, last)) = held.span {
                value["first"] = json!({"position": shown(found, first.position), "time_ms": first.time_ms.as_ms()});
                value["last"] = json!({"position": shown(found, last.position), "time_ms": last.time_ms.as_ms()});
            }
        }
        FileContents::Snapshot(held) => {
            value["start"] = shown(found, held.trailer.start.position).into();
            value["position"] = shown(found, held.trailer.end.position).into();
            value["digest"] = format!("{:016x}", held.trailer.end.digest).into();
            value["namespaces"] =
                held.namespaces.iter().map(|(name, words)| (name.clone(), Value::from(*words))).collect();
            value["image_entries"] = held.trailer.entries.into();
            value["keys"] = held.window.0.into();
            value["streams"] = held.window.1.into();
        }
        FileContents::Other(why) => value["note"] = (*why).into(),
        FileContents::Unreadable => {}
    }
    value
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Manifest => "manifest",
        FileKind::Log => "log",
        FileKind::Snapshot => "snapshot",
    }
}

pub fn repair(arguments: &RepairArguments) -> CommandResult {
    let path = &arguments.directory;
    let disk = open(path)?;
    let _lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            CommandError::Failed(format!("{} is in use ({error}): stop that process first", path.display()))
        }
        _ => cannot_use(path, &error),
    })?;
    let failed = |error: memdb::storage::repair::RepairError| CommandError::Failed(error.to_string());
    let Some(plan) = plan(&disk, DedupLimits::default()).map_err(failed)? else {
        return if arguments.json {
            say(&json!({"plan": null}).to_string())
        } else {
            say("nothing to repair: a start accepts these files")
        };
    };
    if arguments.json {
        say(&json!({"plan": plan_as_json(&plan)}).to_string())?;
    } else {
        plan_lines(&plan).iter().try_for_each(|line| say(line))?;
    }
    if !arguments.yes && !agreed()? {
        return Err(CommandError::Failed("nothing was changed".into()));
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let follows = plan.follows();
    let identity = plan.manifest.identity;
    let mark = plan.carry_out(&disk, limits::DEFAULT_SEGMENT_BYTES).map_err(failed)?;
    if arguments.json {
        let position = identity.token(mark.position).to_string();
        return say(&json!({"repaired": {"position": position, "follows": follows}}).to_string());
    }
    say(&format!("repaired: the database goes on behind record {}", mark.position.sequence))?;
    if follows {
        say(
            "It follows when it is started: replicas may have what was cut, or nothing tells that this node led. If no node \
             of this database leads, promote the one that has most: memdb promote URL",
        )?;
    }
    Ok(())
}

/// What a repair would do, for a program.
fn plan_as_json(plan: &RepairPlan) -> Value {
    let set_aside = plan.aside.iter().map(|part| {
        let kept_as = format!("{}{}", part.file, memdb::storage::repair::DAMAGED);
        json!({"file": part.file, "from_byte": part.from_byte, "bytes": part.bytes, "kept_as": kept_as, "why": part.why})
    });
    json!({
        "refused": plan.refused,
        "end": plan.manifest.identity.token(plan.end).to_string(),
        "snapshot": plan.snapshot,
        "manifest_rebuilt": plan.rebuilt,
        "set_aside": set_aside.collect::<Value>(),
        "lost": plan.lost.map(|lost| json!({
            "first": lost.first, "last": lost.last, "whole": lost.whole,
            "last_synced": (lost.synced >= lost.first).then_some(lost.synced),
        })),
        "unknown_epoch": plan.unknown_epoch,
    })
}

/// Describes what a repair would do, to the person who has to agree.
fn plan_lines(plan: &RepairPlan) -> Vec<String> {
    let mut lines = vec![format!("a start is refused: {}", plan.refused), String::new(), "a repair would".to_owned()];
    let kept = plan.snapshot.as_deref().unwrap_or("no snapshot");
    lines.push(format!("  keep       everything up to record {} ({kept}, and the log behind it)", plan.end));
    if let Some(why) = &plan.rebuilt {
        lines.push(format!("  rebuild    MANIFEST from the headers of the other files: {why}"));
        lines.push(
            "             (what it knew of past epochs and replicas is lost, as far as no record tells)".to_owned(),
        );
    }
    for aside in &plan.aside {
        let what = if aside.from_byte == 0 { String::new() } else { format!(" from byte {} on", aside.from_byte) };
        let (file, bytes, why) = (&aside.file, GroupedNumber(aside.bytes), &aside.why);
        lines.push(format!(
            "  set aside  {file}{what}, {bytes} bytes, as {file}{}: {why}",
            memdb::storage::repair::DAMAGED
        ));
    }
    match plan.lost {
        Some(lost) => {
            let count = GroupedNumber(lost.last - lost.first + 1);
            lines.push(format!("  lose       {count} records: {} to {}", lost.first, lost.last));
            lines.push(if lost.synced >= lost.first {
                format!(
                    "             of which {} to {} were synced: writes that were acknowledged are gone",
                    lost.first, lost.synced
                )
            } else {
                "             none of which is known to have been synced; writes may have been acknowledged".to_owned()
            });
            lines.push(format!("             {} of them are whole, in what is set aside", GroupedNumber(lost.whole)));
        }
        None => lines.push("  lose       no record that any file tells of".to_owned()),
    }
    if let Some(epoch) = plan.unknown_epoch {
        lines.push(format!("             epoch {epoch} has no segment left: what it wrote, if anything, is not known"));
    }
    lines
}

/// Asks, if somebody is there to answer.
fn agreed() -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        tell("no terminal to ask on: repeat with --yes to do this");
        return Ok(false);
    }
    let mut err = io::stderr().lock();
    let _ = write!(err, "Do this? Type yes: ").and_then(|()| err.flush()); // nothing can be done if nobody sees it
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (951_782_400_123, "2000-02-29 00:00:00.123 UTC"),
            (1_700_000_000_000, "2023-11-14 22:13:20.000 UTC"),
            (4_107_542_399_999, "2100-02-28 23:59:59.999 UTC"),
        ];
        for (time_ms, expected) in cases {
            assert_eq!(utc(time_ms), expected);
        }
    }
}
