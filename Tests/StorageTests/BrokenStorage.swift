import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

/// The way to the target's disks breaks, stalls, or ends with the target, at every step of the switchover.
///
/// Whatever comes of it: exactly one owner, stated correctly, and no write acknowledged to the guest is
/// missing on the owner's disks.
@Suite(.serialized)
struct BrokenStorage {
  enum Step: String, CaseIterable, Sendable {
    case transferring, switchingOver, activating, handingOver

    var phase: Int32 {
      switch self {
      case .transferring: 5
      case .switchingOver: 6
      case .handingOver: 7
      case .activating: 8
      }
    }
  }

  enum Fault: String, CaseIterable, Sendable {
    case cut, stall, slow, targetKilled
  }

  struct Case: CustomTestStringConvertible, Sendable {
    var version: QEMUVersion
    var step: Step
    var fault: Fault
    var fast: Bool

    var testDescription: String {
      "\(version), \(fault.rawValue) while \(step.rawValue), \(fast ? "fast" : "other") order"
    }
  }

  static let cases: [Case] = QEMUVersion.allCases.flatMap { version in
    Step.allCases.flatMap { step in
      faults(version).map {
        Case(version: version, step: step, fault: $0, fast: version == .system72)
      }
    }
  }

  /// A fixed part of them in every check, all of them in the long run.
  private static func faults(_ version: QEMUVersion) -> [Fault] {
    if ProcessInfo.processInfo.environment["SWO_LONG"] != nil { return Fault.allCases }
    return version == .system72 ? [.cut, .targetKilled] : [.cut, .slow]
  }

  @Test(arguments: cases) func oneOwnerAndNoLostWrite(_ situation: Case) throws {
    let pair = try DiskMigration.pair(situation.version, disks: DiskSituations.disks(2))
    defer { pair.close() }
    let relay = try Relay(
      listeningOn: .unix(pair.directory.file("relay.sock")),
      forwardingTo: .unix(pair.directory.file("nbd.sock")))
    defer { relay.close() }
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(
      pair,
      handOver: situation.step == .handingOver ? .SWO_HAND_OVER_BEFORE_RESUME : .SWO_HAND_OVER_NONE,
      fast: situation.fast, nbdAt: "unix:" + pair.directory.file("relay.sock"), outOfBand: true)
    migration.handOverResult = situation.fault == .targetKilled ? 2 : 1
    try migration.check(swo_migration_set_storage_limits(migration.handle, 500, 2000))
    if situation.step == .transferring {
      try migration.check(swo_migration_set_bandwidth(migration.handle, 2_000_000))
    }
    try migration.start()
    if try migration.pump({ $0.hasReached(situation.step.phase) }) {
      switch situation.fault {
      case .cut: relay.cut()
      case .stall: relay.setStalled(true)
      case .slow: relay.setRoundTripTime(.milliseconds(40))
      case .targetKilled: pair.target.kill()
      }
    }
    let outcome = try migration.finish()
    relay.setStalled(false)
    try expectOneOwner(pair, outcome)
  }

  private func expectOneOwner(_ pair: QEMUPair, _ outcome: DiskMigration.Outcome) throws {
    switch outcome.owner {
    case 1:
      #expect(outcome.guest == 1, "\(outcome.summary)")
      #expect(pair.ticks.isTicking(.source), "\(outcome.summary)")
      try pair.ticks.assertNothingLost()
      try DiskSituations.expectNoLoss(pair, on: .source)
    case 2 where pair.target.exit != nil:
      // It was killed after it had run: the guest is not started again behind its back.
      #expect(outcome.end == 1 || outcome.guest == 3, "\(outcome.summary)")
      #expect(
        pair.source.waitForExit(upTo: .seconds(10)) != nil
          || (try? pair.source.monitor.runState()) == "postmigrate")
    case 2:
      #expect(outcome.end == 1 && outcome.guest == 1, "\(outcome.summary)")
      #expect(pair.ticks.isTicking(.target), "\(outcome.summary)")
      #expect(pair.source.waitForExit(upTo: .seconds(30)) == .exited(status: 0))
      try pair.ticks.assertNothingLost()
      try DiskSituations.expectNoLoss(pair)
    default:
      // Nobody, or unknown: then nothing may run without its being said.
      #expect(!outcome.nextStep.isEmpty, "\(outcome.summary)")
      try pair.ticks.assertSilentOnBothSides()
    }
  }

  /// A stall at STOP blocks QEMU's main loop; out of band it is broken, and the guest runs on where it was.
  @Test(arguments: QEMUVersion.allCases) func aStallAtStopIsYanked(_ version: QEMUVersion) throws {
    let pair = try DiskMigration.pair(version, disks: DiskSituations.disks(1)) {
      $0.common.guest.startsLoadAtBoot = false
    }
    defer { pair.close() }
    let relay = try Relay(
      listeningOn: .unix(pair.directory.file("relay.sock")),
      forwardingTo: .unix(pair.directory.file("nbd.sock")))
    defer { relay.close() }
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(
      pair, nbdAt: "unix:" + pair.directory.file("relay.sock"), outOfBand: true)
    try migration.check(swo_migration_set_storage_limits(migration.handle, 500, 2000))
    try migration.check(swo_migration_set_bandwidth(migration.handle, 2_000_000))
    try migration.start()
    #expect(try migration.pump { $0.hasReached(5) })
    relay.setStalled(true)
    try pair.source.serial.send(.writeSector)
    let outcome = try migration.finish()
    #expect(outcome.owner == 1 && outcome.guest == 1, "\(outcome.summary)")
    #expect(outcome.warnings.contains { $0.contains("breaking the NBD connections") }, "\(outcome)")
    #expect(pair.ticks.isTicking(.source))
    try pair.ticks.assertNothingLost()
  }
}
