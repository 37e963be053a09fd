/// Where one migration stands.
public enum MigrationPhase: Int, Hashable, Sendable, CaseIterable {
  /// Made, not started.
  case idle
  /// Waiting for both monitors to greet.
  case connecting
  /// Asking both sides; nothing is changed but the target's disarming.
  case preflight
  /// Setting capabilities and parameters.
  case preparing
  /// Mirrors are being brought in sync.
  case mirroring
  /// RAM travels; the guest runs on the source.
  case transferring
  /// The guest stands; QEMU sends the rest. The source's own status decides.
  case switchingOver
  /// The host program moves ownership.
  case handingOver
  /// The grant is on its way, or the target activates.
  case activating
  /// The target owns the guest; the rest is put in order.
  case finishing
  /// Something failed or was cancelled: the pair is brought to one owner, and our settings back.
  case undoing
  case ended
}

/// How a migration ended.
public enum MigrationEnd: Hashable, Sendable, CaseIterable {
  case completed
  case cancelled
  case failed
  /// A reply was lost and could not be settled.
  case unknown
}
