import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

/// Local disks that move with the guest, on real QEMUs.
@Suite(.serialized)
struct DiskSituations {
  /// Raw and qcow2 in turn.
  static func disks(_ count: Int) -> [QEMUPair.DiskOptions] {
    (0..<count).map { index in
      var disk = QEMUPair.DiskOptions()
      disk.sourceFormat = index % 2 == 0 ? .raw : .qcow2
      disk.targetFormat = index % 2 == 0 ? .raw : .qcow2
      return disk
    }
  }

  /// No write acknowledged to the guest is missing on the target, and no sector differs that should not.
  static func expectNoLoss(
    _ pair: QEMUPair, on side: Side = .target, endingAs exit: ChildProcess.Exit? = nil
  ) throws {
    let load = try #require(pair.source.options.guest.disks)
    #expect(pair.process(side).quit() == exit ?? .exited(status: 0))
    let checker = SectorChecker(load: load, lines: pair.ticks.lines())
    for (disk, image) in try #require(pair.images[side]).enumerated() {
      #expect(checker.acknowledgedWrites[disk] > 0)
      #expect(try checker.findings(disk: disk, image: image) == [])
    }
  }

  @Test(arguments: QEMUVersion.allCases) func pausedGuestLeavesEqualImages(
    _ version: QEMUVersion
  ) throws {
    let pair = try DiskMigration.pair(version, disks: Self.disks(2))
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    try pair.source.monitor.execute("stop")
    let outcome = try DiskMigration(pair).run()
    #expect(outcome.end == 1 && outcome.owner == 2 && outcome.guest == 2, "\(outcome.summary)")
    #expect(pair.source.waitForExit(upTo: .seconds(30)) == .exited(status: 0))
    #expect(pair.target.quit() == .exited(status: 0))
    let (source, target) = (pair.images[.source] ?? [], pair.images[.target] ?? [])
    for (from, to) in zip(source, target) {
      #expect(try from.content() == to.content())
    }
  }

  @Test(arguments: QEMUVersion.allCases, [true, false]) func takesOverMirrors(
    _ version: QEMUVersion, writeBlocking: Bool
  ) throws {
    let pair = try DiskMigration.pair(version, disks: Self.disks(1))
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    try pair.startNBDServer(at: pair.nbdEndpoint)
    try pair.startMirrors(to: pair.nbdEndpoint)
    let migration = try DiskMigration(pair, addsDisks: false)
    try migration.check(
      swo_migration_take_over_mirror(
        migration.handle, QEMUProcess.nodeName(disk: 0), QEMUPair.mirrorName(disk: 0),
        writeBlocking ? 1 : 0, "mirror-target0"))
    let outcome = try migration.run()
    #expect(outcome.end == 1 && outcome.owner == 2, "\(outcome.summary)")
    #expect(pair.ticks.isTicking(.target))
    #expect(pair.source.waitForExit(upTo: .seconds(30)) == .exited(status: 0))
    try Self.expectNoLoss(pair)
  }

  // MARK: - Disks that differ

  @Test(arguments: QEMUVersion.allCases) func aCancelWhileMirrorsAreCopyingHurtsNobody(
    _ version: QEMUVersion
  ) throws {
    var disks = Self.disks(2)
    for index in disks.indices { disks[index].sectors = 131_072 }
    let pair = try DiskMigration.pair(version, disks: disks)
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(pair, addsDisks: false)
    let listen = "unix:" + pair.directory.file("nbd.sock")
    try migration.check(swo_migration_set_nbd(migration.handle, listen, listen))
    for disk in 0...1 {
      let node = QEMUProcess.nodeName(disk: disk)
      try migration.check(swo_migration_add_disk(migration.handle, node, node, node, 500_000))
    }
    try migration.start()
    #expect(try migration.pump { swo_migration_phase($0.handle) == 4 && $0.isCopying })
    try migration.check(swo_migration_cancel(migration.handle))
    let outcome = try migration.finish()
    #expect(outcome.end == 2 && outcome.owner == 1 && outcome.guest == 1, "\(outcome.summary)")
    #expect(pair.ticks.isTicking(.source))
    try Self.expectNoLoss(pair, on: .source)
  }

  /// The guest stays on the source, which has nothing of ours left.
  static func expectRefusal(
    _ pair: QEMUPair, _ outcome: DiskMigration.Outcome, _ failure: String, _ words: String
  ) throws {
    #expect(
      outcome.end == 3 && outcome.owner == 1 && outcome.guest == 1,
      "\(outcome.summary) \(String(describing: pair.source.exit)) \(pair.source.standardError)")
    #expect(outcome.failure == failure, "\(outcome.summary)")
    #expect(outcome.text.contains(words), "\(outcome.text)")
    #expect(pair.ticks.isTicking(.source))
    // Nothing of ours is left on the source.
    let jobs = try pair.source.monitor.execute("query-block-jobs")
    #expect(jobs.array?.isEmpty == true)
    let nodes = try pair.source.monitor.execute("query-named-block-nodes", ["flat": true])
    #expect(nodes.array?.contains { $0["node-name"]?.string?.hasPrefix("swo-") == true } == false)
  }

  @Test(arguments: QEMUVersion.allCases) func sizesThatDifferAreRefused(_ version: QEMUVersion)
    throws
  {
    var disk = QEMUPair.DiskOptions()
    disk.targetSectors = 8192
    let pair = try DiskMigration.pair(version, disks: [disk])
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    try Self.expectRefusal(pair, try DiskMigration(pair).run(), "mismatch", "bytes on the source")
  }

  @Test(arguments: QEMUVersion.allCases) func aMissingExportIsRefused(_ version: QEMUVersion) throws
  {
    let pair = try DiskMigration.pair(version, disks: Self.disks(1))
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(pair, addsDisks: false)
    let listen = "unix:" + pair.directory.file("nbd.sock")
    try migration.check(swo_migration_set_nbd(migration.handle, listen, listen))
    try migration.check(
      swo_migration_add_disk(migration.handle, QEMUProcess.nodeName(disk: 0), "no-such", nil, 0))
    try Self.expectRefusal(pair, try migration.run(), "command", "'blockdev-add'")
  }

  @Test(arguments: QEMUVersion.allCases) func aReadOnlyExportIsRefused(_ version: QEMUVersion)
    throws
  {
    let pair = try DiskMigration.pair(version, disks: Self.disks(1))
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let listen = pair.directory.file("nbd.sock")
    try pair.target.monitor.execute(
      "nbd-server-start", ["addr": Endpoint.unix(listen).legacySocketAddress])
    let node = QEMUProcess.nodeName(disk: 0)
    try pair.target.monitor.execute(
      "block-export-add",
      [
        "type": "nbd", "id": "read-only", "node-name": .string(node), "name": .string(node),
        "writable": false,
      ])
    let migration = try DiskMigration(pair, addsDisks: false)
    try migration.check(swo_migration_set_nbd(migration.handle, "unix:" + listen, nil))
    try migration.check(swo_migration_add_disk(migration.handle, node, node, nil, 0))
    let outcome = try migration.run()
    #expect(outcome.end == 3 && outcome.owner == 1, "\(outcome.summary)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test(arguments: QEMUVersion.allCases) func aMirrorThatSomebodyEndsCallsItOff(
    _ version: QEMUVersion
  ) throws {
    let pair = try DiskMigration.pair(version, disks: Self.disks(2))
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let migration = try DiskMigration(pair)
    try migration.check(swo_migration_set_bandwidth(migration.handle, 1_000_000))
    try migration.start()
    #expect(try migration.pump { $0.phase == 5 })
    try pair.source.monitor.execute(
      "block-job-cancel", ["device": "swo-mirror1", "force": false])
    try Self.expectRefusal(pair, try migration.finish(), "storage", "ended by somebody else")
  }
}
