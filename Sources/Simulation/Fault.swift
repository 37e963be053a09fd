import MigrationEngine

/// What can go wrong in a simulated world, beside what the scenario itself holds.
public enum FaultKind: String, CaseIterable, Sendable {
  // The monitors' connections.
  case sourceMonitorCut, targetMonitorCut
  case sourceMonitorCutWithinBytes, targetMonitorCutWithinBytes
  case sourceMonitorStalls, targetMonitorStalls
  case sourceMonitorHalfOpen, targetMonitorHalfOpen
  // The migration's connection.
  case migrationCut, migrationStalls, migrationVanishes
  // The disks' connections.
  case storageCut, storageStalls, storageVanishes
  // Processes.
  case sourceKilled, targetKilled, targetEnded
  /// It is killed, and soon a QEMU of another guest has its address, and its number.
  case targetReplaced
  // The guest and its owner.
  case guestPowersOff, guestReboots, guestPanics, guestInputOutputError
  case ownerStops, ownerResumes, ownerCancels
  // Others at the monitors.
  case strangerAtSource, strangerAtTarget, strangerResumesSource
  // The host program.
  case hostCancels, hostFencesSource, hostFencesTarget, hostHandsBack, engineCrashes
  // Things of tomorrow (I7).
  case unknownEvent, unknownStatus, unknownMember
  case spuriousWake

  /// Whether it must change nothing (I7).
  var isHarmless: Bool {
    switch self {
    case .unknownEvent, .unknownStatus, .unknownMember, .spuriousWake: true
    default: false
    }
  }

  /// Whether it can keep the session from learning, or from doing, what it needs.
  var mayLeaveUnknown: Bool {
    switch self {
    case .sourceMonitorCut, .targetMonitorCut, .sourceMonitorCutWithinBytes,
      .targetMonitorCutWithinBytes, .sourceMonitorStalls, .targetMonitorStalls,
      .sourceMonitorHalfOpen, .targetMonitorHalfOpen, .sourceKilled, .targetKilled, .targetEnded,
      .targetReplaced,
      .strangerAtSource, .strangerAtTarget, .strangerResumesSource, .hostFencesSource,
      .hostFencesTarget, .engineCrashes,
      .migrationStalls, .migrationVanishes, .migrationCut, .storageCut, .storageStalls,
      .storageVanishes, .guestPowersOff, .guestPanics:
      true
    default: false
    }
  }
}

/// One fault, and when it strikes.
public struct Fault: Sendable {
  public enum Trigger: Hashable, Sendable {
    /// After the start.
    case time(Span)
    /// Before the happening of this number, counted from the start.
    case step(Int)
    /// After the session entered a phase.
    case phase(MigrationPhase, Span)
    /// After the source's migration took on a status.
    case status(String, Span)
  }

  public var kind: FaultKind
  public var trigger: Trigger
  /// How long it lasts where it lasts, and how many bytes pass where bytes count.
  public var length: Span
  public var bytes: Int

  public init(_ kind: FaultKind, _ trigger: Trigger, length: Span = .seconds(1), bytes: Int = 0) {
    self.kind = kind
    self.trigger = trigger
    self.length = length
    self.bytes = bytes
  }
}
