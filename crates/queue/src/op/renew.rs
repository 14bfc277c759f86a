//! RENEW: extends leases that are still ours.

use std::collections::BTreeMap;

use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{Error, Lease};

/// Leases in one call.
const GROUP: usize = 500;

impl Shared {
    pub(crate) async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Error> {
        self.renew_each(leases).await.into_iter().collect()
    }

    pub(crate) async fn renew_each(&self, leases: &[Lease]) -> Vec<Result<bool, Error>> {
        let mut ours: Vec<Result<bool, Error>> = leases.iter().map(|_| Ok(false)).collect();
        let mut partitions: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, lease) in leases.iter().enumerate() {
            partitions.entry(lease.id.partition()).or_default().push(index);
        }
        let groups = partitions.iter().flat_map(|(partition, all)| all.chunks(GROUP).map(|group| (*partition, group)));
        let calls = groups.map(|(partition, group)| async move {
            let members: Vec<Arg<'_>> = group.iter().map(|&index| (&*leases[index].member).into()).collect();
            let lease = &self.partition(partition).lease;
            let call = script::Renew { lease, term: self.settings.lease.into(), members: &members }.call();
            (group, self.node(partition).settles.call(call, 64 * group.len()).await)
        });
        for (group, answer) in futures_util::future::join_all(calls).await {
            match answer {
                Ok(answer) => {
                    for (&index, value) in group.iter().zip(value::array(&answer)) {
                        ours[index] = Ok(value::integer(value) == Some(1));
                    }
                }
                Err(fault) => group.iter().for_each(|&index| ours[index] = Err(fault.clone().into())),
            }
        }
        ours
    }
}
