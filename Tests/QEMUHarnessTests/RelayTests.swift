import Foundation
import QEMUHarness
import Testing

@Suite("A relay", .serialized)
struct RelayConditions {
  private let process: QEMUProcess
  private let directory: TemporaryDirectory
  private let relay: Relay

  init() throws {
    directory = try TemporaryDirectory()
    process = try QEMUProcess(name: "guest", in: directory)
    relay = try Relay(
      listeningOn: .unix(directory.file("relay.sock")),
      forwardingTo: .unix(process.monitorPaths[0]))
  }

  private func connect() throws -> HarnessMonitor {
    try HarnessMonitor(relay.endpoint)
  }

  private func time(_ body: () throws -> Void) rethrows -> Duration {
    let start = MonotonicTime.now
    try body()
    return .now - start
  }

  @Test("adds a round-trip time, no more and no less")
  func addsRoundTripTime() throws {
    let monitor = try connect()
    let before = try time { try monitor.execute("query-status") }
    relay.setRoundTripTime(.milliseconds(40))
    let durations = try (0..<5).map { _ in try time { try monitor.execute("query-status") } }
    print("a round trip took \(before.milliseconds), then \(durations.map(\.milliseconds)) ms")
    #expect(durations.allSatisfy { $0 >= .milliseconds(40) })
    #expect(try #require(durations.min()) < before + .milliseconds(60))
  }

  @Test("stalls and goes on")
  func stalls() throws {
    let monitor = try connect()
    relay.setStalled(true)
    let identifier = try monitor.send("query-status")
    #expect(throws: HarnessError.self) {
      try monitor.waitForReply(
        to: identifier, of: "query-status", upTo: .milliseconds(300))
    }
    #expect(!monitor.isClosed)
    relay.setStalled(false)
    #expect(
      try monitor.waitForReply(to: identifier, of: "query-status")["status"] == "running")
  }

  @Test("cuts, refuses, and forwards again")
  func cuts() throws {
    let monitor = try connect()
    #expect(relay.connections == 1)
    relay.cut()
    #expect(throws: HarnessError.self) { try monitor.execute("query-status") }
    #expect(monitor.waitForClose())
    relay.setRefusing(true)
    #expect(throws: HarnessError.self) { try connect() }
    relay.setRefusing(false)
    #expect(try connect().runState() == "running")
  }

  @Test("cuts after exactly so many bytes")
  func cutsAfterBytes() throws {
    let monitor = try connect()
    let passed = relay.passedBytes(.backward)
    relay.change(.backward) { $0.cutAfterBytes = passed + 10 }
    #expect(throws: HarnessError.self) { try monitor.execute("query-status") }
    #expect(relay.waitForBytes(passed + 10, .backward, upTo: .seconds(60)))
    #expect(relay.passedBytes(.backward) == passed + 10)
    #expect(try connect().runState() == "running")
  }

  @Test("limits the rate of a TCP stream and loses nothing")
  func limitsRate() throws {
    var options = QEMUPair.Options()
    options.common.guest.memory = .init(mebibytes: 8, pagesPerTick: 64)
    let pair = try QEMUPair(options)
    try pair.makeTargetListen()
    let relay = try Relay(listeningOn: .tcp(0), forwardingTo: pair.migrationEndpoint)
    relay.change(.forward) { $0.bytesPerSecond = 4 << 20 }
    let count = pair.source.monitor.events.count
    try pair.source.serial.send(.stopLoad)
    try pair.source.monitor.execute(
      "migrate", ["uri": .string(relay.endpoint.migrationAddress)])
    let duration = try time {
      try pair.source.monitor.waitForMigration("completed", after: count)
      try pair.target.monitor.execute("cont")
      try pair.target.monitor.waitForEvent("RESUME")
    }
    let bytes = relay.passedBytes(.forward)
    print("\(bytes) bytes took \(duration.milliseconds) ms")
    #expect(duration >= .seconds(Double(bytes) / Double(4 << 20)) * 0.9)
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertNothingLost()
  }
}
