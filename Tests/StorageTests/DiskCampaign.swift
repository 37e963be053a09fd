import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

@testable import MigrationEngine

/// Many migrations with disks in a row, for each QEMU and order.
///
/// The first few are part of every check. The long run's are what the engine's list of releases for the
/// fast order rests on: not one lost write, wrong sector, or source that did not end in order.
@Suite(.serialized)
struct DiskCampaign {
  struct Order: CustomTestStringConvertible, Sendable {
    var version: QEMUVersion
    var isFast: Bool

    var testDescription: String { "\(version), \(isFast ? "fast" : "other") order" }
  }

  static let orders = QEMUVersion.allCases.flatMap { version in
    [true, false].map { Order(version: version, isFast: $0) }
  }

  /// `SWO_LONG` is set, or is the number of migrations for each QEMU and order.
  private static let rounds: Int = {
    guard let text = ProcessInfo.processInfo.environment["SWO_LONG"] else { return 4 }
    return max(Int(text) ?? 0, 120)
  }()

  /// One migration of the row; all that differs comes from its number.
  struct Round: CustomStringConvertible {
    var number: Int

    var isPaused: Bool { number % 8 == 3 }
    var disks: Int { number % 2 == 0 ? 1 : 4 }
    /// Memory changes faster than it may travel, so that there are more passes than two.
    var hasManyPasses: Bool { number % 5 == 2 }
    var handOver: swo_hand_over {
      let all: [swo_hand_over] = [
        .SWO_HAND_OVER_NONE, .SWO_HAND_OVER_BEFORE_RESUME, .SWO_HAND_OVER_AFTER_RESUME,
      ]
      return all[number % all.count]
    }
    /// From raw to raw, qcow2 to qcow2, and each to the other.
    func formats(disk: Int) -> (source: QEMUProcess.DiskFormat, target: QEMUProcess.DiskFormat) {
      let kind = number / 2 + disk
      return (kind % 2 == 0 ? .raw : .qcow2, (kind / 2 + kind) % 2 == 0 ? .raw : .qcow2)
    }

    var description: String {
      "migration \(number): \(disks) disk(s)\(isPaused ? ", paused guest" : "")"
        + "\(hasManyPasses ? ", many passes" : ""), \(handOver)"
    }
  }

  /// The fast order is for exactly those releases that this campaign runs on, in the long run a hundred
  /// times and more each.
  @Test func backsTheListOfReleases() {
    let backed = QEMUVersion.allCases.map { version in
      let (major, minor) = (Int(version.number.major), Int(version.number.minor))
      return QEMURelease(major, minor)...QEMURelease(major, minor, 99)
    }
    #expect(MigrationEngine.releasesWithFastOrder == backed)
  }

  @Test(arguments: orders) func keepsEveryWrite(_ order: Order) throws {
    var inOrder = 0
    for number in 0..<Self.rounds {
      let round = Round(number: number)
      do {
        if try migrate(round, order) { inOrder += 1 }
      } catch {
        Issue.record("\(round): \(error)")
      }
    }
    print("\(order.testDescription): \(Self.rounds) migrations, \(inOrder) of them in that order")
    // A mirror may have a write on its way in pre-switchover; then the fast order is not for it.
    #expect(inOrder * 10 >= Self.rounds * 9)
  }

  /// Answers whether the mirrors were ended in the order that was asked for.
  private func migrate(_ round: Round, _ order: Order) throws -> Bool {
    let pair = try DiskMigration.pair(
      order.version,
      disks: (0..<round.disks).map { disk in
        var options = QEMUPair.DiskOptions()
        (options.sourceFormat, options.targetFormat) = round.formats(disk: disk)
        return options
      }, sectors: 4000
    ) {
      if round.hasManyPasses {
        $0.common.guest.memory = GuestImage.MemoryLoad(mebibytes: 2, pagesPerTick: 4)
      }
    }
    defer { pair.close() }
    if round.isPaused { try pair.source.monitor.execute("stop") }
    let migration = try DiskMigration(pair, handOver: round.handOver, fast: order.isFast)
    if round.hasManyPasses {
      try migration.check(swo_migration_set_bandwidth(migration.handle, 4_000_000))
    }
    let outcome = try migration.run()
    #expect(
      outcome.end == 1 && outcome.owner == 2 && outcome.guest == (round.isPaused ? 2 : 1),
      "\(round): \(outcome.summary)")
    #expect(outcome.warnings.filter { !$0.contains("out-of-band") } == [], "\(round)")
    let sourceExit = pair.source.waitForExit()
    #expect(sourceExit == .exited(status: 0), "\(round): \(pair.source.standardError)")
    if round.isPaused {
      #expect(pair.target.quit() == .exited(status: 0), "\(round)")
      for (from, to) in zip(pair.images[.source] ?? [], pair.images[.target] ?? []) {
        #expect(try from.content() == to.content(), "\(round): \(to.path)")
      }
    } else {
      #expect(pair.ticks.isTicking(.target), "\(round)")
      try pair.ticks.assertNothingLost()
      try DiskSituations.expectNoLoss(pair)
    }
    return pair.mirrorsOutlivedTheSource == order.isFast
  }
}

extension QEMUPair {
  /// Whether the mirrors were there when the source's state had left: the fast order.
  var mirrorsOutlivedTheSource: Bool {
    !source.monitor.events.prefix { !$0.isEndOfMigration }.contains {
      $0.name == "BLOCK_JOB_COMPLETED"
    }
  }
}

extension HarnessMonitor.Event {
  fileprivate var isEndOfMigration: Bool {
    name == "MIGRATION" && data["status"]?.string == "completed"
  }
}
