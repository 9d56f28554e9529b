//! The simulated receive buffers: poisoned whenever nobody may look at them.

use crate::ring::Lease;

/// What bytes become when their lease is back.
const POISON: u8 = 0xa5;

/// The receive buffers of one simulated ring; a lease takes a whole one.
#[derive(Debug)]
pub(super) struct Lender {
    buffers: Vec<Vec<u8>>,
    vacant: Vec<u16>,
    bytes_max: usize,
}

impl Lender {
    pub(super) fn new(count: u16, bytes: u32) -> Self {
        let bytes_max = bytes as usize;
        let buffers = (0..count).map(|_| vec![POISON; bytes_max]).collect();
        Self { buffers, vacant: (0..count).collect(), bytes_max }
    }

    /// The size of a buffer.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Buffers that are not out.
    pub(super) fn vacant(&self) -> usize {
        self.vacant.len()
    }

    /// Leases that are out.
    pub(super) fn out(&self) -> usize {
        self.buffers.len() - self.vacant.len()
    }

    /// Lends a buffer that holds `bytes`, `start` bytes from its front; `None`: all are out.
    pub(super) fn lend(&mut self, start: usize, bytes: impl Iterator<Item = u8>) -> Option<Lease> {
        let buffer = self.vacant.pop()?;
        let memory = &mut self.buffers[usize::from(buffer)];
        let mut end = start;
        for (place, byte) in memory[start..].iter_mut().zip(bytes) {
            *place = byte;
            end += 1;
        }
        let number = |place| u32::try_from(place).expect("buffer sizes are u32");
        Some(Lease { buffer, start: number(start), len: number(end - start) })
    }

    /// The leased bytes.
    pub(super) fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let start = lease.start as usize;
        &mut self.buffers[usize::from(lease.buffer)][start..start + lease.len as usize]
    }

    /// Takes a lease back and spoils its bytes.
    pub(super) fn release(&mut self, lease: &Lease) {
        assert!(!self.vacant.contains(&lease.buffer), "a lease of another ring");
        self.buffers[usize::from(lease.buffer)].fill(POISON);
        self.vacant.push(lease.buffer);
    }
}
