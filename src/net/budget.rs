//! A bound that all clients share, of which one address may have a share.

use super::address_limits::{Resource, Usage};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// An amount that all clients hold together, with its bound.
#[derive(Debug)]
pub struct Budget {
    resource: Resource,
    held: AtomicUsize,
    bound: AtomicUsize,
    /// The most that one address may hold.
    share: AtomicUsize,
}

/// The reason for which no more of a budget is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetRefusal {
    /// The address holds its share.
    Address {
        /// The most that one address may hold.
        share: usize,
        /// The most that all hold together.
        bound: usize,
    },
    /// All clients together hold all of it.
    All,
}

impl Budget {
    /// One address may hold `share` of `bound`.
    pub fn new(resource: Resource, bound: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { resource, held: AtomicUsize::new(0), bound: bound.into(), share: share.into() })
    }

    /// Sets another bound. Whoever holds more keeps it, and gets no more.
    pub fn set_bound(&self, bound: usize, share: usize) {
        self.bound.store(bound, Ordering::Relaxed);
        self.share.store(share, Ordering::Relaxed);
    }

    /// Gives the bound.
    pub fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// Takes so much for a client of this address.
    ///
    /// # Errors
    /// [`BudgetRefusal`] if the address would hold more than its share, or all clients more than the bound; nothing is
    /// taken then.
    pub fn take(self: &Arc<Self>, usage: &Usage, amount: usize) -> Result<BudgetShare, BudgetRefusal> {
        let mut taken = BudgetShare::of(self, usage);
        taken.set(amount)?;
        Ok(taken)
    }
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Arc<Budget>,
    usage: Usage,
    amount: usize,
}

impl BudgetShare {
    /// Nothing yet.
    pub fn of(budget: &Arc<Budget>, usage: &Usage) -> Self {
        Self { budget: Arc::clone(budget), usage: usage.clone(), amount: 0 }
    }

    /// Makes it so much: what is more is asked for, what is less is given back.
    ///
    /// # Errors
    /// [`BudgetRefusal`] if the address would hold more than its share, or all clients more than the bound; nothing is
    /// taken then.
    pub fn set(&mut self, amount: usize) -> Result<(), BudgetRefusal> {
        if amount > self.amount {
            return self.grow(amount - self.amount);
        }
        self.give_back(self.amount - amount);
        Ok(())
    }

    /// Takes so much more.
    ///
    /// # Errors
    /// [`BudgetRefusal`] if the address would hold more than its share, or all clients more than the bound; nothing is
    /// taken then.
    pub fn grow(&mut self, amount: usize) -> Result<(), BudgetRefusal> {
        let Budget { resource, held, .. } = &*self.budget;
        let (bound, share) = (self.budget.bound(), self.budget.share.load(Ordering::Relaxed));
        // The address first: whoever has its share is told so even when there is room for nobody, and is in nobody's
        // way.
        if !self.usage.take(*resource, amount, share) {
            return Err(BudgetRefusal::Address { share, bound });
        }
        self.amount += amount;
        if held.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) > bound {
            self.give_back(amount);
            return Err(BudgetRefusal::All);
        }
        Ok(())
    }

    fn give_back(&mut self, amount: usize) {
        self.amount -= amount;
        self.budget.held.fetch_sub(amount, Ordering::Relaxed);
        self.usage.give_back(self.budget.resource, amount);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::address_limits::tests::halves, *};

    #[test]
    fn an_address_is_refused_beyond_its_share_and_all_beyond_the_bound() {
        let addresses = halves();
        let (one, other) = (addresses.usage([10, 0, 0, 1].into()), addresses.usage([10, 0, 0, 2].into()));
        let budget = Budget::new(Resource::UploadBytes, 10, 6);
        let mut first = budget.take(&one, 4).expect("within its share");
        assert_eq!(first.grow(3), Err(BudgetRefusal::Address { share: 6, bound: 10 }));
        assert_eq!(first.set(6), Ok(()), "what was refused is not held");
        assert_eq!(budget.take(&other, 5).expect_err("there are 4 left"), BudgetRefusal::All);
        let rest = budget.take(&other, 4).expect("what was refused is not held");
        assert_eq!(budget.take(&Usage::default(), 1).expect_err("nothing is left"), BudgetRefusal::All);
        first.set(1).expect("less");
        let unbounded = budget.take(&Usage::default(), 5).expect("5 are free");
        drop((first, rest, unbounded));
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        assert!(budget.take(&one, 6).is_ok() && budget.take(&other, 6).is_ok());
    }
}
