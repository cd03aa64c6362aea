//! The log of a piece of code, for tests of what it says.

use parking_lot::Mutex;
use std::{io, sync::Arc};
use tracing_subscriber::fmt::MakeWriter;

/// The place that lines are written to.
#[derive(Clone, Default)]
struct CapturedLines(Arc<Mutex<Vec<u8>>>);

impl io::Write for CapturedLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for CapturedLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Gives what this thread logs meanwhile, a line for each event, from level `info` on.
pub(crate) fn captured(run: impl FnOnce()) -> String {
    let lines = CapturedLines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(std::mem::take(&mut lines.0.lock())).expect("UTF-8")
}
