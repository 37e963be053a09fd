import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

/// The library is gone at every step of the switchover, without another word to either QEMU.
///
/// What both are left in is listed here; it is what a recovery begins with.
@Suite(.serialized)
struct EngineGone {
  struct Case: CustomTestStringConvertible, Sendable {
    var version: QEMUVersion
    var step: SwitchoverStep
    var fast: Bool

    var testDescription: String {
      "\(version), gone \(step.rawValue), \(fast ? "fast" : "other") order"
    }
  }

  /// What both QEMUs say once nothing happens by itself any more.
  struct Remains: Equatable, CustomStringConvertible {
    /// The source's run state.
    var source: String
    /// The migration's status, as the source has it.
    var migration: String
    /// The status of every mirror on the source.
    var mirrors: [String]
    /// How many nodes of ours the source has.
    var nodes: Int
    /// The target's run state.
    var target: String
    /// How many disks the target's NBD server exports.
    var exports: Int

    var description: String {
      "source \(source), migration \(migration), mirrors \(mirrors), \(nodes) nodes; "
        + "target \(target), \(exports) exports"
    }
  }

  /// Each step once in every check, in the long run each in both orders.
  static let cases: [Case] = QEMUVersion.allCases.enumerated().flatMap { number, version in
    SwitchoverStep.allCases.enumerated().flatMap { index, step in
      let orders =
        ProcessInfo.processInfo.environment["SWO_LONG"] == nil
        ? [(number + index) % 2 == 0] : [true, false]
      return orders.map { Case(version: version, step: step, fast: $0) }
    }
  }

  @Test(arguments: cases) func isListed(_ situation: Case) throws {
    let pair = try DiskMigration.pair(situation.version, disks: DiskSituations.disks(2))
    defer { pair.close() }
    let migration = try DiskMigration(
      pair, handOver: situation.step.handOver, fast: situation.fast)
    #expect(try migration.advance(to: situation.step))
    migration.abandon()
    let remains = try Self.remains(of: pair, after: situation.step)
    print("\(situation.testDescription): \(remains)")
    let isFast = situation.fast && pair.mirrorsOutlivedTheSource
    // QEMU may have been quicker than the test: the library has granted then.
    let step =
      situation.step.mayBeGranted && remains.target == "running" ? .afterResume : situation.step
    #expect(Self.expected(step, isFast).contains(remains), "\(remains)")
    if remains.target == "running" {
      try pair.ticks.assertSilent(.source)
    } else {
      try pair.ticks.assertSilentOnBothSides()
    }
    try pair.ticks.assertNothingLost()
  }

  /// The list: nowhere do both run, and nowhere is the target's disk written to from two sides.
  private static func expected(_ step: SwitchoverStep, _ isFast: Bool) -> [Remains] {
    let ready = ["ready", "ready"]
    let concluded = ["concluded", "concluded"]
    switch step {
    case .beforeStop, .atStop, .inPreSwitchover:
      // QEMU waits for a `migrate-continue` that nobody sends: the guest stands on the source.
      return [
        Remains(
          source: "finish-migrate", migration: "pre-switchover", mirrors: ready, nodes: 2,
          target: "inmigrate", exports: 2)
      ]
    case .afterContinue, .afterCompleted, .handingOver:
      // The guest stands on the target, which was disarmed and not granted. A stop of the server that
      // was on its way may be lost with the connection.
      let exports = isFast && step != .handingOver ? [2] : [0, 2]
      return exports.map {
        Remains(
          source: "postmigrate", migration: "completed", mirrors: isFast ? ready : concluded,
          nodes: 2, target: "paused", exports: $0)
      }
    case .afterResume:
      // The library may have begun to clean up.
      return [ready, concluded].map { mirrors in
        Remains(
          source: "postmigrate", migration: "completed", mirrors: mirrors, nodes: 2,
          target: "running", exports: 0)
      }
    }
  }

  private static func remains(of pair: QEMUPair, after step: SwitchoverStep) throws -> Remains {
    let (source, target) = (pair.source.monitor, pair.target.monitor)
    if step.isBeforeContinue {
      try source.waitForMigration("pre-switchover")
    } else {
      try source.waitForRunState("postmigrate")
    }
    return Remains(
      source: try source.runState(), migration: try source.migrationStatus(),
      mirrors: (try source.execute("query-block-jobs").array ?? []).map {
        $0["status"]?.string ?? ""
      },
      nodes: (try source.execute("query-named-block-nodes", ["flat": true]).array ?? []).count {
        $0["node-name"]?.string?.hasPrefix("swo-") == true
      },
      target: try target.runState(),
      exports: try target.execute("query-block-exports").array?.count ?? 0)
  }
}
