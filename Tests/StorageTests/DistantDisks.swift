import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

/// The target's disks and both monitors are ten milliseconds away.
@Suite(.serialized)
struct DistantDisks {
  private static let roundTrip = Duration.milliseconds(10)
  private static let rounds =
    ProcessInfo.processInfo.environment["SWO_LONG"] == nil ? 1 : 10

  @Test(arguments: DiskCampaign.orders) func loseNoWrite(_ order: DiskCampaign.Order) throws {
    for _ in 0..<Self.rounds { try migrate(order) }
  }

  private func migrate(_ order: DiskCampaign.Order) throws {
    let pair = try DiskMigration.pair(
      order.version, disks: DiskSituations.disks(2), sectors: 4000)
    defer { pair.close() }
    var relays: [Relay] = []
    func distant(_ path: String, as name: String) throws -> String {
      let relay = try Relay(
        listeningOn: .unix(pair.directory.file(name)), forwardingTo: .unix(path))
      relay.setRoundTripTime(Self.roundTrip)
      relays.append(relay)
      return pair.directory.file(name)
    }
    defer { for relay in relays { relay.close() } }
    let migration = try DiskMigration(
      pair, fast: order.isFast,
      nbdAt: "unix:" + distant(pair.directory.file("nbd.sock"), as: "distant-nbd.sock"),
      monitors: [
        .source: distant(pair.source.monitorPaths[0], as: "distant-source.sock"),
        .target: distant(pair.target.monitorPaths[0], as: "distant-target.sock"),
      ])
    let outcome = try migration.run()
    #expect(outcome.end == 1 && outcome.owner == 2 && outcome.guest == 1, "\(outcome.summary)")
    #expect(pair.source.waitForExit() == .exited(status: 0), "\(pair.source.standardError)")
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertNothingLost()
    try DiskSituations.expectNoLoss(pair)
    let gap = try #require(pair.ticks.gap())
    let parts = migration.ledger.map { "\($0.name) \($0.microseconds / 1000)" }
    print(
      "\(order.testDescription), 10 ms away: gap \(gap.milliseconds) ms; "
        + parts.joined(separator: ", "))
    // The order shows in what the source did.
    #expect(pair.mirrorsOutlivedTheSource == order.isFast)
  }
}
