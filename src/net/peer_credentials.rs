//! What a node shows other nodes, and by what it knows them.

use super::tls::client::ClientTls;
use crate::base::secret::Secret;

/// The secret and the certificates of a node that speaks to others. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PeerCredentials {
    /// The secret of the cluster.
    pub secret: Option<Secret>,
    /// For nodes whose addresses begin with `https://`.
    pub tls: ClientTls,
}
