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
}
