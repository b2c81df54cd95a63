//! Guarantees that a test disables to show that it would notice. Only builds with the feature `failpoints` contain this module.

use common::failpoint::without;

use crate::publish::snapshot_records::Owner;

/// Without the guarantee `fence`, each process has a transactional id of its own, so none fences another.
pub(crate) fn transactional_id(shared: String, owner: &Owner) -> String {
    if without("fence") { format!("{shared}.{}", owner.owner) } else { shared }
}
