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

extension MigrationPhase {
  /// The transition table: what each phase may become. Anything else is a contradiction in the engine.
  public static let transitions: [(from: MigrationPhase, to: MigrationPhase, when: String)] = [
    (.idle, .connecting, "start"),
    (.connecting, .preflight, "both monitors greeted"),
    (.connecting, .undoing, "a monitor is busy or unreachable, or cancel"),
    (.preflight, .preparing, "nothing forbids it; the target is disarmed"),
    (.preflight, .ended, "only a check was asked for"),
    (.preflight, .undoing, "refused, lost, or cancel"),
    (.preparing, .preflight, "a monitor was lost and came back: ask again"),
    (.preparing, .transferring, "settings made; `migrate` sent"),
    (.preparing, .mirroring, "settings made; there are local disks"),
    (.mirroring, .transferring, "all mirrors ready; `migrate` sent"),
    (.mirroring, .undoing, "a mirror failed or does not get in sync, a side died, or cancel"),
    (.preparing, .undoing, "a command refused, lost, or cancel"),
    (.transferring, .switchingOver, "STOP, `device` or a final status; or the source died"),
    (.transferring, .undoing, "failed, target gone, deadline, guest off, or cancel"),
    (.switchingOver, .transferring, "the STOP was somebody's pause"),
    (.switchingOver, .handingOver, "completed: load proven, ownership may move"),
    (.switchingOver, .activating, "completed: the grant goes out"),
    (.switchingOver, .undoing, "failed, or the outcome cannot be learnt"),
    (.handingOver, .activating, "handed over"),
    (.handingOver, .finishing, "handed over after the target ran; or the host program resumed it"),
    (.handingOver, .undoing, "the hand-over failed, or the target died"),
    (.activating, .handingOver, "the target runs; ownership may follow"),
    (.activating, .finishing, "the target runs, or holds a paused guest"),
    (.activating, .undoing, "the target died, or refused"),
    (.finishing, .ended, "all put in order"),
    (.undoing, .switchingOver, "a cancel was overtaken by `completed`"),
    (.undoing, .ended, "one owner, settings back"),
  ]

  /// Whether the table has this step.
  public func mayBecome(_ next: MigrationPhase) -> Bool {
    Self.transitions.contains { $0.from == self && $0.to == next }
  }
}
