import Testing

@testable import MigrationEngine

/// Many ends of many migrations, each recovered with the help of an honest person.
struct RecoveryWorldTests {
  @Test func everyEndIsBroughtToOneOwner() {
    var rules: [String: Int] = [:]
    for seed in UInt64(1)...3_000 {
      var world = RecoveryWorld(seed: seed)
      do {
        let conclusion = try world.recover()
        rules[conclusion.rule, default: 0] += 1
      } catch {
        Issue.record("seed \(seed): \(error)\n\(world.log.joined(separator: "\n"))")
        return
      }
    }
    // The ways that matter are taken, and taken often.
    for rule in ["source-runs", "completed-target-runs", "dead-target-runs"] {
      #expect(rules[rule, default: 0] > 50, "\(rules)")
    }
  }
}
