import CSwitchover
import DemoGuest
import Foundation
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A source's monitor that others use too")
  struct SharedMonitor {
    private static let isLong = ProcessInfo.processInfo.environment["SWO_LONG"] != nil

    /// A guest with much memory in use, some of it written to all the time.
    private static func largeGuest(_ options: inout QEMUPair.Options) {
      options.common.memoryMebibytes = 512
      options.common.guest.memory = GuestLoad.large
    }

    private func migration(
      _ situation: Situation, _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
    ) throws -> MigrationUnderTest {
      try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        $0.sharesSourceMonitor = true
        $0.bandwidth = 32 << 20
        change(&$0)
      }
    }

    private func finish(_ migration: MigrationUnderTest) throws -> Outcome {
      try migration.pumpUntilHandOverIsWanted(upTo: .seconds(240))
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      return try migration.finish()
    }

    /// All the memory of the load is in use.
    private func fill(_ situation: Situation) throws {
      guard situation.source.serial.waitForTicks(GuestLoad.ticksUntilFull, upTo: .seconds(120))
      else { throw HarnessError("the guest does not tick") }
    }

    @Test("twenty of them ask each second, and all are answered", arguments: QEMUVersion.allCases)
    func twentyClients(version: QEMUVersion) throws {
      let situation = try Situation(version) {
        Self.largeGuest(&$0)
        $0.common.guest.memory?.mebibytes = 200
      }
      try fill(situation)
      let others = OtherClients(20, at: situation.source.monitorPaths[0])
      let migration = try migration(situation)
      try migration.start()
      if !Self.isLong {
        // Only the long run waits until the limit on the blackout has grown to what such a load needs.
        try migration.pump(upTo: .seconds(120)) { $0.isFinished || others.count >= 100 }
        try situation.source.serial.send(.stopLoad)
      }
      let outcome = try finish(migration)
      let waits = others.stop()
      situation.expect(outcome, .completed())
      situation.expectGuestRuns(on: .target)
      #expect(others.failures == [])
      #expect(waits.count > 40)
      print("waits of twenty clients, \(version): \(OtherClients.distribution(of: waits))")
      #expect(waits.allSatisfy { $0 < OtherClients.patience })
      situation.expectNothingLeftOn()
    }

    @Test(
      "one keeps it for 30 s: the guest does not stand for that",
      arguments: isLong ? QEMUVersion.allCases : [.system72])
    func keeper(version: QEMUVersion) throws {
      let situation = try Situation(version, Self.largeGuest)
      try fill(situation)
      let migration = try migration(situation)
      try situation.startTransfer(migration)
      // It stands in the queue, and gets in while RAM travels.
      let keeper = KeptMonitor(at: situation.source.monitorPaths[0], for: .seconds(30))
      try migration.pump(upTo: .seconds(60)) { _ in keeper.isServed }
      // The guest comes to rest: nothing but its being slowed down keeps QEMU from the switchover.
      try situation.source.serial.send(.stopLoad)
      try migration.pump(upTo: .seconds(60)) { _ in keeper.hasLeft }
      #expect(try situation.source.monitor.runState() == "running")
      #expect(keeper.sawStop == false)
      #expect(migration.warnings.contains { $0.hasPrefix("another client keeps") })
      situation.expect(try finish(migration), .completed())
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("a small guest is gone before anybody is let in", arguments: QEMUVersion.allCases)
    func smallGuest(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let others = OtherClients(3, at: situation.source.monitorPaths[0])
      let migration = try migration(situation) { $0.bandwidth = nil }
      try migration.start()
      situation.expect(try finish(migration), .completed())
      _ = others.stop()
      #expect(others.failures == [])
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("a cancel while another has it comes through after that", arguments: QEMUVersion.allCases)
    func cancelInAbsence(version: QEMUVersion) throws {
      let situation = try Situation(version, Self.largeGuest)
      try fill(situation)
      let migration = try migration(situation)
      try situation.startTransfer(migration)
      let keeper = KeptMonitor(at: situation.source.monitorPaths[0], for: .seconds(2))
      try migration.pump(upTo: .seconds(60)) { _ in keeper.isServed }
      #expect(migration.cancel().code == .SWO_OK)
      let outcome = try migration.finish()
      #expect(outcome.end == .SWO_END_CANCELLED)
      #expect(outcome.owner == .SWO_OWNER_SOURCE)
      situation.expectSourceUnharmed()
    }
  }
}

/// The memory of a guest that takes some seconds to migrate.
private enum GuestLoad {
  static let large = GuestImage.MemoryLoad(mebibytes: 400, pagesPerTick: 256)
  static let ticksUntilFull = 410
}

/// Other programs at a monitor: each connects, asks one question and closes, once a second.
private final class OtherClients: Sendable {
  /// After this long a tool of such a stack reports a timeout.
  static let patience = Duration.seconds(5)

  private struct State {
    var waits: [Duration] = []
    var failures: [String] = []
    var isStopped = false
    var running = 0
  }

  private let state = Guarded(State())

  init(_ count: Int, at path: String) {
    state.withLock { $0.running = count }
    for index in 0..<count {
      let state = state
      Thread {
        Thread.sleep(forTimeInterval: Double(index) / 20)
        while !state.withLock({ $0.isStopped }) {
          let begun = MonotonicTime.now
          do {
            let monitor = try HarnessMonitor(.unix(path))
            _ = try monitor.execute("query-status")
            state.withLock { $0.waits.append(.now - begun) }
          } catch {
            state.withLock { $0.failures.append("\(error)") }
          }
          Thread.sleep(forTimeInterval: max(0, 1 - (MonotonicTime.now - begun) / .seconds(1)))
        }
        state.withLock { $0.running -= 1 }
      }.start()
    }
  }

  /// How many questions have been answered.
  var count: Int { state.withLock { $0.waits.count } }

  var failures: [String] { state.withLock { $0.failures } }

  /// Ends them; the time of each from its first attempt to its answer.
  func stop() -> [Duration] {
    state.withLock { $0.isStopped = true }
    _ = state.wait(upTo: .seconds(60)) { $0.running == 0 ? true : nil }
    return state.withLock { $0.waits }
  }

  static func distribution(of waits: [Duration]) -> String {
    let sorted = waits.map { $0 / .milliseconds(1) }.sorted()
    func at(_ part: Double) -> String {
      sorted.isEmpty
        ? "-" : String(format: "%.1f", sorted[Int(Double(sorted.count - 1) * part)])
    }
    return "\(sorted.count) answers, ms: median \(at(0.5)), p90 \(at(0.9)), p99 \(at(0.99)), "
      + "longest \(at(1))"
  }
}

/// A client that keeps a monitor for a while, and hears what QEMU says meanwhile.
private final class KeptMonitor: Sendable {
  private struct State {
    var isServed = false
    var hasLeft = false
    var sawStop: Bool?
  }

  private let state = Guarded(State())

  init(at path: String, for duration: Duration) {
    let state = state
    Thread {
      guard let monitor = try? HarnessMonitor(.unix(path)) else { return }
      state.withLock { $0.isServed = true }
      Thread.sleep(forTimeInterval: duration / .seconds(1))
      let sawStop = monitor.events.contains { $0.name == "STOP" }
      monitor.close()
      state.withLock {
        $0.sawStop = sawStop
        $0.hasLeft = true
      }
    }.start()
  }

  var isServed: Bool { state.withLock { $0.isServed } }
  var hasLeft: Bool { state.withLock { $0.hasLeft } }
  var sawStop: Bool? { state.withLock { $0.sawStop } }
}
