import CSwitchover
import QEMUHarness

/// The steps of a switchover, each of which a test can stop at: the migration goes no further while its
/// loop is not turned, and the harness's own monitors say how far the QEMUs have come.
enum SwitchoverStep: String, CaseIterable, Sendable {
  case beforeStop, atStop, inPreSwitchover, afterContinue, afterCompleted, handingOver, afterResume

  /// Nobody has told the source to go on from `pre-switchover`.
  var isBeforeContinue: Bool { [.beforeStop, .atStop, .inPreSwitchover].contains(self) }

  /// The source may be done before the test knows that it went on.
  var mayBeGranted: Bool { [.afterContinue, .afterCompleted].contains(self) }

  var handOver: swo_hand_over {
    self == .handingOver ? .SWO_HAND_OVER_BEFORE_RESUME : .SWO_HAND_OVER_NONE
  }
}

extension DiskMigration {
  /// Starts, and goes on to a step; answers false where the migration ended before.
  func advance(to step: SwitchoverStep) throws -> Bool {
    // The last passes last long enough for what a test does in between.
    if step == .beforeStop { try check(swo_migration_set_bandwidth(handle, 2_000_000)) }
    if step == .handingOver { handOverResult = nil }
    let start = pair.source.monitor.events.count
    try self.start()
    guard try pump({ _ in sourceSaid("active", after: start) }) else { return false }
    switch step {
    case .beforeStop: return true
    case .atStop:
      try pair.source.monitor.waitForEvent("STOP", after: start)
    case .inPreSwitchover:
      try pair.source.monitor.waitForMigration("pre-switchover", after: start)
    case .afterContinue, .afterCompleted:
      while !sourceSaid("device", after: start) {
        if swo_migration_end(handle) != 0 { return false }
        try turn(waiting: 1)
      }
      if step == .afterCompleted {
        try pair.source.monitor.waitForMigration("completed", after: start)
      }
    case .handingOver:
      return try pump { $0.hasReached(7) }
    case .afterResume:
      return try pump { _ in pair.target.monitor.events.contains { $0.name == "RESUME" } }
    }
    return true
  }

  private func sourceSaid(_ status: String, after count: Int) -> Bool {
    pair.source.monitor.events.dropFirst(count).contains {
      $0.name == "MIGRATION" && $0.data["status"]?.string == status
    }
  }
}
