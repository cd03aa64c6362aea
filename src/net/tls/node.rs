//! All of a node's TLS, and how it is read again.

use super::{
    client::ClientTls,
    files::{self, TlsFileError, TlsFiles},
    server::ServerTls,
};
use crate::{base::reload::ReloadablePart, storage::file_stamp::FileStamp};
use parking_lot::Mutex;
use std::sync::Arc;

/// The TLS of a node. The default has none: it serves plain HTTP, and connects to nodes that do.
#[derive(Debug, Default)]
pub struct NodeTls {
    files: TlsFiles,
    server: Option<ServerTls>,
    nodes: ClientTls,
    origin: ClientTls,
    /// The files as they were when they were last read, and when they were last looked at.
    seen: Mutex<SeenFiles>,
}

#[derive(Debug, Default)]
struct SeenFiles {
    read: Vec<Option<FileStamp>>,
    looked_at: Vec<Option<FileStamp>>,
}

impl NodeTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsFileError`] for the first that cannot be read or used.
    pub fn read(files: TlsFiles) -> Result<Arc<Self>, TlsFileError> {
        let stamps = files.stamps();
        let server = match &files.identity {
            Some(identity) => Some(ServerTls::read(identity, files.client_authorities.as_deref())?),
            None => None,
        };
        let nodes = ClientTls::from_files(files.node_authorities.as_deref(), files.identity.as_ref())?;
        let origin = ClientTls::from_files(files.origin_authorities.as_deref(), None)?;
        let seen = Mutex::new(SeenFiles { read: stamps.clone(), looked_at: stamps });
        Ok(Arc::new(Self { files, server, nodes, origin, seen }))
    }

    /// Gives the listener's side; `None`: plain HTTP.
    pub fn server(&self) -> Option<&ServerTls> {
        self.server.as_ref()
    }

    /// Gives the side that connects to other nodes.
    pub fn nodes(&self) -> &ClientTls {
        &self.nodes
    }

    /// Gives the side that connects to the origin.
    pub fn origin(&self) -> ClientTls {
        self.origin.clone().or_system_authorities()
    }

    /// Logs whether clients will refuse the node's certificate for its age.
    pub fn log_expiry(&self) {
        let Some(shown) = self.nodes.shown() else { return };
        if let (Some((end, true)), Some(files)) = (files::expiry(&shown.cert), &self.files.identity) {
            let path = files.certificate.display();
            tracing::warn!(
                "the certificate in {path} has expired on {end}: clients refuse it. Put a new one in its place"
            );
        }
    }

    /// Returns whether there is anything that could be read again.
    pub fn has_files(&self) -> bool {
        self.files.paths().next().is_some()
    }

    /// Reads the files again. All of what they say holds for what connects from here on, or nothing of it.
    fn read_again(&self) -> Result<Vec<String>, TlsFileError> {
        let TlsFiles { identity, client_authorities, node_authorities, origin_authorities } = &self.files;
        let stamps = self.files.stamps();
        *self.seen.lock() = SeenFiles { read: stamps.clone(), looked_at: stamps };
        let shown = identity.as_ref().map(files::identity).transpose()?;
        let believed = node_authorities.as_deref().map(files::authorities).transpose()?;
        let of_origin = origin_authorities.as_deref().map(files::authorities).transpose()?;
        let mut lines = Vec::new();
        if let (Some(server), Some(identity)) = (&self.server, identity) {
            server.reload(identity, client_authorities.as_deref())?;
            let end = shown.as_ref().and_then(|shown| files::expiry(&shown.cert));
            let until = end.map_or_else(String::new, |(end, _)| format!(", valid until {end}"));
            lines.push(format!("the certificate in {}{until}", identity.certificate.display()));
        }
        let told = [client_authorities, node_authorities, origin_authorities];
        lines.extend(told.into_iter().flatten().map(|path| format!("the authorities in {}", path.display())));
        self.nodes.show(shown);
        self.log_expiry();
        self.nodes.believe(believed);
        if of_origin.is_some() {
            self.origin.believe(of_origin);
        }
        Ok(lines)
    }
}

impl ReloadablePart for NodeTls {
    fn name(&self) -> &'static str {
        "certificates"
    }

    /// Only once the files are the same at two looks: whoever replaces a certificate and its key is not met between the
    /// two.
    fn has_changed(&self) -> bool {
        let stamps = self.files.stamps();
        let mut seen = self.seen.lock();
        let (is_other, is_still) = (stamps != seen.read, stamps == seen.looked_at);
        seen.looked_at = stamps;
        is_other && is_still
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        self.read_again().map_err(|error| error.to_string())
    }
}
