import QEMUHarness
import Testing

@Suite("A migration driven by hand", .serialized)
struct HandDrivenMigration {
  @Test(
    "moves the guest: it ticks on at the target and stands at the source",
    arguments: QEMUVersion.allCases, [QEMUPair.Incoming.deferred, .unix])
  func movesTheGuest(version: QEMUVersion, incoming: QEMUPair.Incoming) throws {
    var options = QEMUPair.Options(version)
    options.incoming = incoming
    let pair = try QEMUPair(options)
    try pair.ticks.assertSilent(.target)

    let blackout = try pair.migrateByHand()

    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertSilent(.source)
    try pair.ticks.assertNothingLost()
    let gap = try #require(pair.ticks.gap())
    print(
      "\(version): the guest's gap \(gap.milliseconds) ms,",
      "STOP to RESUME \(blackout.duration.milliseconds) ms")
    #expect(pair.source.quit() == .exited(status: 0))
    #expect(pair.target.quit() == .exited(status: 0))
  }

  @Test("goes from one version to the other")
  func betweenVersions() throws {
    var options = QEMUPair.Options(.system72)
    options.targetVersion = .backports100
    let pair = try QEMUPair(options)
    try pair.migrateByHand()
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertSilent(.source)
    try pair.ticks.assertNothingLost()
  }

  @Test("to a target that starts its guest by itself", arguments: QEMUVersion.allCases)
  func automaticStart(version: QEMUVersion) throws {
    var options = QEMUPair.Options(version)
    options.targetStartsPaused = false
    let pair = try QEMUPair(options)
    let blackout = try pair.migrateByHand(grant: .automatic)
    #expect(blackout.duration > .zero)
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertSilent(.source)
  }

  @Test("goes there and back, and a new target follows a dead one", arguments: QEMUVersion.allCases)
  func thereAndBack(version: QEMUVersion) throws {
    let pair = try QEMUPair(QEMUPair.Options(version))
    pair.target.close()
    try pair.ticks.assertSilent(.target)
    let second = try pair.withNewTarget(named: "second")
    try second.migrateByHand()
    #expect(second.ticks.isTicking(.target))
    second.source.close()
    try second.ticks.assertSilent(.source)
    let back = try second.fromTarget(toNewTargetNamed: "third")
    try back.migrateByHand()
    #expect(back.ticks.isTicking(.target))
    try back.ticks.assertSilent(.source)
    try second.ticks.assertNothingLost()
  }

  @Test("a source whose device the target lacks ends the target", arguments: QEMUVersion.allCases)
  func missingDevice(version: QEMUVersion) throws {
    var options = QEMUPair.Options(version)
    options.sourceArguments = ["-device", "virtio-rng-pci"]
    let pair = try QEMUPair(options)
    try pair.makeTargetListen()
    try pair.source.monitor.execute("migrate", ["uri": .string(pair.migrationAddress)])
    #expect(pair.target.waitForExit() == .exited(status: 1))
    #expect(pair.target.standardError.contains("virtio-rng"))
    // Whether the source learns of it depends on who is faster; in both cases it is the owner.
    let end = try pair.source.monitor.waitForMigration("completed", "failed")
    if end.data["status"] == "completed" {
      try pair.ticks.assertSilentOnBothSides()
      try pair.source.monitor.waitForRunState("postmigrate")
      try pair.source.monitor.execute("cont")
    }
    #expect(pair.ticks.isTicking(.source))
    try pair.ticks.assertSilent(.target)
  }

  @Test("the witnesses do not believe a wrong claim")
  func witnessesDoNotLie() throws {
    var options = QEMUPair.Options()
    options.targetStartsPaused = false
    let pair = try QEMUPair(options)
    #expect(throws: HarnessError.self) { try pair.ticks.assertSilentOnBothSides() }
    #expect(!pair.ticks.isTicking(.target, within: .milliseconds(100)))
    try pair.migrateByHand(grant: .automatic)
    // Both guests run: what no migration may ever lead to.
    try pair.source.monitor.waitForRunState("postmigrate")
    try pair.source.monitor.execute("cont")
    #expect(pair.ticks.isTicking(.source))
    #expect(pair.ticks.isTicking(.target))
    #expect(throws: HarnessError.self) { try pair.ticks.assertSilent(.source) }
    #expect(throws: HarnessError.self) { try pair.ticks.assertNothingLost() }
  }
}
