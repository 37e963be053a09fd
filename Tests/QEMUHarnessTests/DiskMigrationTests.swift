import DemoGuest
import QEMUHarness
import Testing

@Suite("A migration of disks driven by hand", .serialized)
struct HandDrivenDiskMigration {
  private static let load = GuestImage.DiskLoad(count: 1, sectors: 500)

  private func pair(
    _ version: QEMUVersion, target: QEMUProcess.DiskFormat
  ) throws -> QEMUPair {
    var options = QEMUPair.Options(version)
    options.common.guest.disks = Self.load
    var disk = QEMUPair.DiskOptions()
    disk.targetFormat = target
    options.disks = [disk]
    return try QEMUPair(options)
  }

  private func waitForWrites(_ process: QEMUProcess, _ count: Int) -> Bool {
    var seen = 0
    return process.serial.waitForLine(upTo: .seconds(60)) { line in
      if case .written = line { seen += 1 }
      return seen >= count
    }
  }

  @Test(
    "keeps every acknowledged write",
    arguments: zip(QEMUVersion.allCases, QEMUProcess.DiskFormat.allCases))
  func keepsEveryWrite(version: QEMUVersion, target: QEMUProcess.DiskFormat) throws {
    let pair = try pair(version, target: target)
    try pair.migrateByHand()
    #expect(waitForWrites(pair.target, 300))
    try pair.ticks.assertSilent(.source)
    try pair.ticks.assertNothingLost()
    #expect(pair.target.quit() == .exited(status: 0))
    #expect(pair.source.quit() == .exited(status: 0))

    let checker = SectorChecker(load: Self.load, lines: pair.ticks.lines())
    #expect(checker.acknowledgedWrites[0] > 300)
    let image = try #require(pair.images[.target]?.first)
    #expect(try checker.findings(disk: 0, image: image) == [])
  }

  @Test("keeps every write of four disks, ten milliseconds away")
  func keepsWritesOfFourDisks() throws {
    let load = GuestImage.DiskLoad(count: 4, sectors: 500)
    var options = QEMUPair.Options(.backports100)
    options.common.guest.disks = load
    options.disks = Array(repeating: QEMUPair.DiskOptions(), count: 4)
    for disk in [1, 3] {
      options.disks[disk].sourceFormat = .qcow2
      options.disks[disk].targetFormat = .qcow2
    }
    let pair = try QEMUPair(options)
    let relay = try Relay(
      listeningOn: .unix(pair.directory.file("relay.sock")), forwardingTo: pair.nbdEndpoint)
    relay.setRoundTripTime(.milliseconds(10))
    let blackout = try pair.migrateByHand(nbdServerFoundAt: relay.endpoint)
    print("four disks, 10 ms away: STOP to RESUME \(blackout.duration.milliseconds) ms")
    #expect(waitForWrites(pair.target, 300))
    try pair.ticks.assertSilent(.source)
    try pair.ticks.assertNothingLost()
    #expect(pair.target.quit() == .exited(status: 0))
    #expect(pair.source.quit() == .exited(status: 0))

    let checker = SectorChecker(load: load, lines: pair.ticks.lines())
    for (disk, image) in try #require(pair.images[.target]).enumerated() {
      #expect(checker.acknowledgedWrites[disk] > 75)
      #expect(try checker.findings(disk: disk, image: image) == [])
    }
  }

  @Test("leaves a shared disk where it is", arguments: QEMUVersion.allCases)
  func sharedDisk(version: QEMUVersion) throws {
    var options = QEMUPair.Options(version)
    options.common.guest.disks = Self.load
    var disk = QEMUPair.DiskOptions()
    disk.isShared = true
    options.disks = [disk]
    let pair = try QEMUPair(options)
    try pair.migrateByHand()
    #expect(waitForWrites(pair.target, 300))
    #expect(pair.source.quit() == .exited(status: 0))
    #expect(pair.target.quit() == .exited(status: 0))
    let checker = SectorChecker(load: Self.load, lines: pair.ticks.lines())
    let image = try #require(pair.images[.source]?.first)
    #expect(try checker.findings(disk: 0, image: image) == [])
  }

  @Test("that copies too early is found out")
  func earlyCopyIsFoundOut() throws {
    let pair = try pair(.system72, target: .raw)
    try pair.makeTargetListen()
    try pair.startNBDServer(at: pair.nbdEndpoint)
    try pair.startMirrors(to: pair.nbdEndpoint)
    // The mistake: the mirror ends long before the guest stops.
    try pair.endMirrors(after: 0)
    #expect(waitForWrites(pair.source, 1000))
    try pair.target.monitor.execute("nbd-server-stop")
    let count = pair.source.monitor.events.count
    try pair.source.monitor.execute("migrate", ["uri": .string(pair.migrationAddress)])
    try pair.source.monitor.waitForMigration("completed", after: count)
    #expect(pair.target.quit() == .exited(status: 0))

    let checker = SectorChecker(load: Self.load, lines: pair.ticks.lines())
    let image = try #require(pair.images[.target]?.first)
    let findings = try checker.findings(disk: 0, image: image)
    #expect(
      findings.contains { if case .lostWrite = $0 { true } else { false } }, "\(findings.count)")
  }
}
