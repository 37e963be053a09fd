import MigrationEngine
import Testing

@testable import Simulation

/// The world itself: that it works where nothing goes wrong, and that a seed is a whole story.
@Suite("World")
struct WorldTests {
  @Test(
    "with nothing in the way every order ends with the guest running on the target",
    arguments: SimulatedRelease.allCases, HandOverMode.allCases)
  func plainMigration(release: SimulatedRelease, handOver: HandOverMode) throws {
    var scenario = Scenario(release: release)
    scenario.options.handOver = handOver
    scenario.options.sourceEnd = handOver == .external ? .keep : .quit
    scenario.disks = [(sectors: 8, hasLock: true)]
    let attachment = DiskAttachment(node: "disk0", disk: 0)
    scenario.source.disks = [attachment]
    scenario.target.disks = [attachment]
    let world = World(scenario, seed: 1)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    let conclusion = try #require(report.conclusion)
    #expect(conclusion.end == .completed)
    #expect(conclusion.owner == .target)
    #expect(conclusion.guest == .running)
    #expect(world.target.isRunning && !world.source.isRunning)
  }

  @Test("a paused guest arrives paused", arguments: SimulatedRelease.allCases)
  func pausedGuest(release: SimulatedRelease) throws {
    var scenario = Scenario(release: release)
    scenario.guestAtStart = .paused
    let world = World(scenario, seed: 1)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.owner == .target)
    #expect(report.conclusion?.guest == .paused)
    #expect(world.target.runState == .paused)
  }

  @Test(
    "two local disks arrive whole, in every order",
    arguments: SimulatedRelease.allCases, HandOverMode.allCases)
  func localDisks(release: SimulatedRelease, handOver: HandOverMode) throws {
    for isFast in [true, false] {
      for isTakenOver in [true, false] {
        var scenario = Scenario(release: release)
        scenario.options.handOver = handOver
        scenario.options.storage.allowsFastOrder = isFast
        scenario.mirrorDisks(2, takenOver: isTakenOver, serverRuns: isTakenOver)
        let world = World(scenario, seed: 1)
        let report = world.run()
        #expect(report.violations.isEmpty, "\(report.violations)")
        #expect(report.conclusion?.end == .completed)
        #expect(world.target.isRunning && !world.source.isRunning)
        #expect(!world.target.hasOutsideWriter)
        #expect(world.target.guest.lastNumber > 0, "the guest wrote")
      }
    }
  }

  @Test("one seed is one story, told twice")
  func sameSeedSameLog() {
    for seed in UInt64(1)...40 {
      let first = World(Scenario(seed: seed), seed: seed).run()
      let second = World(Scenario(seed: seed), seed: seed, isVerbose: true).run()
      #expect(first.hash == second.hash, "seed \(seed)")
      #expect(first.happenings == second.happenings)
    }
    #expect(
      World(Scenario(seed: 1), seed: 1).run().hash != World(Scenario(seed: 2), seed: 2).run().hash)
  }
}
