import Foundation
import QEMUHarness
import Testing

@Suite("switchover check", .serialized)
struct CheckTests {
  @Test("a pair that fits is told so, and nothing is changed", arguments: QEMUVersion.allCases)
  func fits(version: QEMUVersion) throws {
    let pair = try QEMUPair(.init(version))
    let before = try pair.source.monitor.execute("query-migrate-capabilities")
    let run = try CommandRun(["check"] + pair.arguments)
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output == "✓ nothing stands against this migration\n")
    #expect(try pair.source.monitor.execute("query-migrate-capabilities") == before)
    #expect(try pair.source.monitor.migrationStatus() == "")
    #expect(try pair.target.monitor.runState() == "inmigrate")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("a target that does not wait for a migration is refused by its run state")
  func targetDoesNotWait() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      ["check", "--source", pair.source.monitorPaths[0], "--target", pair.source.monitorPaths[1]]
        + ["--uri", pair.migrationAddress, "--json"])
    #expect(run.waitForExit() == 10, "\(run.output)")
    let end = try #require(try run.objects().last)
    let failure = try #require(end["failure"] as? [String: Any])
    #expect(failure["name"] as? String == "target-unfit")
    #expect(failure["side"] as? String == "target")
    #expect((failure["text"] as? String)?.contains("'running'") == true)
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("a target with another memory size is refused")
  func otherMemorySize() throws {
    var options = QEMUPair.Options()
    options.targetArguments = ["-m", "192"]
    let pair = try QEMUPair(options)
    let run = try CommandRun(["check"] + pair.arguments)
    #expect(run.waitForExit() == 10, "\(run.output)")
    #expect(run.errors.hasPrefix("✗ switchover: "))
    #expect(run.errors.contains("memory"), "\(run.errors)")
    #expect(run.output.isEmpty)
  }

  @Test("a monitor that is not there is named")
  func nobodyThere() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      [
        "check", "--source", pair.source.monitorPaths[0], "--target", "/nonexistent/monitor",
        "--uri", pair.migrationAddress, "--json",
      ])
    #expect(run.waitForExit() == 10, "\(run.output)")
    let failure = try #require(try run.objects().last?["failure"] as? [String: Any])
    #expect(failure["name"] as? String == "monitor-unreachable")
    #expect(failure["side"] as? String == "target")
  }
}
