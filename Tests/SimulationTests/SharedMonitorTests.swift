import MigrationEngine
import Testing

@testable import Simulation

/// Twenty other programs at the source's only monitor, on the simulated clock.
@Suite("A shared monitor in the world")
struct SharedMonitorTests {
  /// A transfer of some seconds, and how fast QEMU may send.
  static func busy(_ release: SimulatedRelease, bytesPerSecond: UInt64 = 200 << 20) -> Scenario {
    var scenario = Scenario(release: release)
    scenario.options.sourceMonitorIsShared = true
    scenario.options.bandwidthBytesPerSecond = bytesPerSecond
    scenario.source.memoryBytes = 4 << 30
    scenario.target.memoryBytes = 4 << 30
    scenario.source.timing.usedMemoryBytes = 2 << 30
    scenario.source.timing.dirtyBytesPerSecond = 20 << 20
    scenario.others.count = 20
    return scenario
  }

  static let seeds: [UInt64] = Array(1...4)

  @Test(
    "twenty clients are served, and the migration completes",
    arguments: SimulatedRelease.allCases, seeds)
  func twentyClients(release: SimulatedRelease, seed: UInt64) {
    let world = World(Self.busy(release), seed: seed)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.end == .completed)
    #expect(world.target.isRunning && !world.source.isRunning)
    #expect(world.others.timeouts == 0)
    // Everybody got several answers, none after more than the bound.
    #expect(world.others.waits.count > 100)
    let longest = world.others.waits.max() ?? .zero
    #expect(longest < .seconds(3), "\(longest.milliseconds) ms")
  }

  @Test("who waits is let in within 100 ms", arguments: SimulatedRelease.allCases, seeds)
  func promptly(release: SimulatedRelease, seed: UInt64) {
    let world = World(Self.busy(release), seed: seed)
    _ = world.run()
    // While the switchover is far away; nearer to it in any case before others time out.
    let promptly = world.others.givenWay.filter { $0.remainingBytes > 1 << 30 }.map(\.after)
    #expect(promptly.count > 5)
    let longest = promptly.max() ?? .zero
    #expect(longest <= .milliseconds(100), "\(longest.microseconds) µs")
    let longestOfAll = world.others.givenWay.map(\.after).max() ?? .zero
    #expect(longestOfAll <= .seconds(3), "\(longestOfAll.microseconds) µs")
  }

  @Test(
    "a client that keeps the monitor for 30 s does not leave the guest standing",
    arguments: SimulatedRelease.allCases, seeds)
  func keeper(release: SimulatedRelease, seed: UInt64) {
    var scenario = Self.busy(release)
    scenario.others.keepsFor = .seconds(30)
    let world = World(scenario, seed: seed)
    let report = world.run()
    #expect(world.others.hasKept)
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.end == .completed)
    #expect(report.duration > .seconds(30))
    #expect(world.target.isRunning && !world.source.isRunning)
  }

  @Test(
    "a client that never goes away makes it fail, with the guest running on",
    arguments: SimulatedRelease.allCases)
  func keeperForEver(release: SimulatedRelease) {
    var scenario = Self.busy(release)
    scenario.others.count = 1
    scenario.others.keepsFor = .seconds(900)
    scenario.source.timing.usedMemoryBytes = 1 << 30
    let world = World(scenario, seed: 3)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.end != .completed)
    #expect(report.conclusion?.failure?.code == .monitorBusy)
    #expect(world.source.isRunning)
  }

  @Test("where nobody can tell who waits", arguments: SimulatedRelease.allCases, seeds)
  func blind(release: SimulatedRelease, seed: UInt64) {
    var scenario = Self.busy(release)
    scenario.others.canBeCounted = false
    let world = World(scenario, seed: seed)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.end == .completed)
    #expect(world.others.timeouts == 0)
    #expect(world.others.waits.count > 100)
  }

  @Test("a guest that converges at once is not slowed down", arguments: seeds)
  func small(seed: UInt64) {
    var scenario = Self.busy(.qemu100)
    scenario.source.timing.usedMemoryBytes = 64 << 20
    scenario.source.timing.dirtyBytesPerSecond = 0
    let world = World(scenario, seed: seed)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.end == .completed)
    #expect(world.others.timeouts == 0)
  }
}
