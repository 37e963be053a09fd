import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

/// Mirrors that do not get in sync in time, or not at all.
@Suite(.serialized)
struct LateMirrors {
  /// A pair whose mirror cannot be done by the deadline, and its migration.
  private func situation(
    _ version: QEMUVersion, _ policy: swo_sync_policy, bandwidth: UInt64, deadline: UInt64 = 100
  ) throws -> (QEMUPair, DiskMigration) {
    let pair = try DiskMigration.pair(version, disks: DiskSituations.disks(1))
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(pair, addsDisks: false)
    let listen = "unix:" + pair.directory.file("nbd.sock")
    try migration.check(swo_migration_set_nbd(migration.handle, listen, listen))
    let node = QEMUProcess.nodeName(disk: 0)
    try migration.check(
      swo_migration_add_disk(migration.handle, node, node, node, bandwidth))
    try migration.check(swo_migration_set_sync_deadline(migration.handle, deadline))
    try migration.check(
      swo_migration_set_sync_policy(migration.handle, Int32(policy.rawValue)))
    return (pair, migration)
  }

  @Test(arguments: QEMUVersion.allCases) func fail(_ version: QEMUVersion) throws {
    let (pair, migration) = try situation(version, .SWO_SYNC_FAIL, bandwidth: 100_000)
    defer { pair.close() }
    try expectCalledOff(pair, try migration.run(), "did not get in sync within 100 ms")
  }

  @Test(arguments: QEMUVersion.allCases) func areWaitedFor(_ version: QEMUVersion) throws {
    let (pair, migration) = try situation(version, .SWO_SYNC_WAIT, bandwidth: 4_000_000)
    defer { pair.close() }
    try expectSuccess(pair, try migration.run(), warning: "waiting on")
  }

  /// A copy in the background that is slower than the guest's writes is never done; from then on they wait.
  @Test(arguments: QEMUVersion.allCases) func throttleTheGuest(_ version: QEMUVersion) throws {
    let (pair, migration) = try situation(version, .SWO_SYNC_THROTTLE, bandwidth: 1_000_000)
    defer { pair.close() }
    try expectSuccess(pair, try migration.run(), warning: "waits for the target's disk now")
  }

  private func expectSuccess(
    _ pair: QEMUPair, _ outcome: DiskMigration.Outcome, warning: String
  ) throws {
    #expect(outcome.end == 1 && outcome.owner == 2, "\(outcome.summary)")
    #expect(outcome.warnings.contains { $0.contains(warning) }, "\(outcome.warnings)")
    #expect(pair.source.waitForExit() == .exited(status: 0), "\(pair.source.standardError)")
    #expect(pair.ticks.isTicking(.target))
    try DiskSituations.expectNoLoss(pair)
  }

  /// The target refuses a write to one of two disks while they are copied.
  @Test(arguments: QEMUVersion.allCases) func oneOfTwoFails(_ version: QEMUVersion) throws {
    var disks = DiskSituations.disks(2)
    for index in disks.indices { disks[index].targetFormat = .raw }
    let pair = try DiskMigration.pair(version, disks: disks)
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let image = try #require(pair.images[.target]?[1].path)
    try pair.target.monitor.execute(
      "blockdev-add",
      [
        "driver": "raw", "node-name": "failing",
        "file": [
          "driver": "blkdebug", "image": ["driver": "file", "filename": .string(image)],
          "inject-error": [["event": "none", "iotype": "write", "errno": 28, "sector": 4000]],
        ],
      ])
    let migration = try DiskMigration(pair, addsDisks: false)
    let listen = "unix:" + pair.directory.file("nbd.sock")
    try migration.check(swo_migration_set_nbd(migration.handle, listen, listen))
    try migration.addDisk(0)
    try migration.check(
      swo_migration_add_disk(
        migration.handle, QEMUProcess.nodeName(disk: 1), "second", "failing", 0))
    try expectCalledOff(
      pair, try migration.run(), "'\(QEMUProcess.nodeName(disk: 1))' failed")
  }

  /// The guest runs on at the source, or its QEMU died of the failed mirror, which is told.
  private func expectCalledOff(
    _ pair: QEMUPair, _ outcome: DiskMigration.Outcome, _ words: String
  ) throws {
    if pair.source.corruptedHeapExit == nil {
      try DiskSituations.expectRefusal(pair, outcome, "storage", words)
      _ = pair.source.quit()
    } else {
      #expect(outcome.end == 3 && outcome.owner == 1 && outcome.guest == 3, "\(outcome.summary)")
    }
    try DiskSituations.expectNoLoss(pair, on: .source, endingAs: pair.source.corruptedHeapExit)
  }
}
