//! What a plan says of contracts: how what an API promises its callers is another than what it promised.

use super::{ApiPlan, Plan};
use crate::contract::{Contract, Difference, Differences, GONE, compare};
use crate::tree::ApiId;

/// The most differences of one API that are told in sentences; programs get them all.
const TOLD: usize = 20;

impl ApiPlan {
    /// Whether another revision takes the place of one that serves, so that there are two contracts to compare.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.from.is_some() && self.to.is_some() && self.from != self.to
    }

    /// Takes in what is promised so far and what will be, and tells what callers will notice of it.
    pub fn promise(&mut self, old: &Contract, new: &Contract) {
        let differences = compare(old, new);
        self.callers.retain(|line| line != GONE);
        self.callers.extend(sentences(&differences));
        self.contract = Some(differences);
    }

    /// Says that there was a document and is none now, so that nobody knows what breaks callers.
    pub fn miss_document(&mut self) {
        if !self.callers.iter().any(|line| line == GONE) {
            self.callers.push(GONE.to_owned());
        }
    }

    /// What a caller may fail by who goes by what was promised.
    pub fn breaks(&self) -> impl Iterator<Item = &Difference> {
        self.contract.iter().flat_map(|differences| &differences.list).filter(|difference| difference.breaking)
    }
}

impl Plan {
    /// Whether a caller of any API may fail who goes by what was promised.
    #[must_use]
    pub fn breaks_callers(&self) -> bool {
        self.apis.iter().any(|api| api.breaks().next().is_some())
    }

    /// The APIs of which it is not known whether they break callers, since their documents are too large for it.
    pub fn unsure(&self) -> impl Iterator<Item = &ApiId> {
        let is_cut = |api: &&ApiPlan| api.contract.as_ref().is_some_and(|contract| contract.is_cut);
        self.apis.iter().filter(is_cut).map(|api| &api.id)
    }
}

fn sentences(differences: &Differences) -> Vec<String> {
    let (breaking, others): (Vec<_>, Vec<_>) = differences.list.iter().partition(|it| it.breaking);
    // Of these nobody knows, so that each is worth a look, and none goes under in a count.
    let (unsure, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| it.perhaps);
    let mut sentences: Vec<String> =
        breaking.iter().take(TOLD).map(|difference| format!("breaks callers: {difference}")).collect();
    if breaking.len() > TOLD {
        sentences.push(format!("breaks callers: {} more changes; see --output json", breaking.len() - TOLD));
    }
    sentences.extend(unsure.iter().take(TOLD).map(|difference| format!("breaks callers, perhaps: {difference}")));
    if unsure.len() > TOLD {
        let more = unsure.len() - TOLD;
        sentences.push(format!("breaks callers, perhaps: {more} more changes; see --output json"));
    }
    match others.as_slice() {
        [] => {}
        [one] => sentences.push(format!("breaks nobody: {one}")),
        [one, rest @ ..] => {
            let more = rest.len() + differences.left_out;
            sentences.push(format!("breaks nobody: {one}, and {more} more changes"));
        }
    }
    if differences.is_cut {
        sentences.push(
            "breaks callers, perhaps: its OpenAPI documents differ too much, or are too large, to be compared whole"
                .to_owned(),
        );
    }
    sentences
}
