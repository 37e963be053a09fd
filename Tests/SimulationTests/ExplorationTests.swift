import MigrationEngine
import Testing

@testable import Simulation

/// Small worlds with one fault: a sample of what `switchover-sim --explore` does whole.
@Suite("Exploration")
struct ExplorationTests {
  @Test("an undisturbed world of every order holds every rule", arguments: Order.all)
  func undisturbed(order: Order) {
    let world = World(order.scenario, seed: 1)
    let report = world.run()
    #expect(report.violations.isEmpty, "\(report.violations)")
    #expect(report.conclusion?.owner == .target)
    #expect(world.target.isRunning)
    #expect(report.steps.count > 50)
  }

  @Test("a fault strikes where it is told to, and its world is repeatable")
  func faultsStrike() {
    let exploration = Exploration(Order.all[0])
    for (index, kind) in FaultKind.allCases.enumerated() {
      let step = exploration.steps[index % exploration.steps.count]
      let first = exploration.world([(kind, step)]).run()
      let second = exploration.world([(kind, step)]).run()
      #expect(first.hash == second.hash, "\(kind) at \(step)")
      #expect(first.struck == second.struck)
    }
  }
}
