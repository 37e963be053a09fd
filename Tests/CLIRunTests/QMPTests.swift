import Foundation
import QEMUHarness
import Testing

@Suite("switchover qmp", .serialized)
struct QMPTests {
  @Test("commands among the arguments are answered in order, one line each")
  func commands() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      [
        "qmp", "unix:" + pair.source.monitorPaths[0], "query-status", "stop", "query-status",
        "cont", "human-monitor-command", #"{"command-line":"info name"}"#,
      ])
    #expect(run.waitForExit() == 0, "\(run.errors)")
    let lines = run.output.split(separator: "\n")
    try #require(lines.count == 5)
    let first = try JSONValue(text: Data(lines[0].utf8))
    #expect(first["status"]?.string == "running")
    #expect(try JSONValue(text: Data(lines[2].utf8))["status"]?.string == "paused")
    #expect(try JSONValue(text: Data(lines[4].utf8)).string?.contains("source") == true)
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("lines from standard input are commands; QEMU's refusal ends it with status 2")
  func lines() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      shell: "printf '# remark\\n\\nquery-status\\n  human-monitor-command "
        + "{\"command-line\":\"info name\"}\\nno-such-command\\nstop\\n' "
        + "| \"$SWITCHOVER\" qmp \(pair.source.monitorPaths[0])")
    #expect(run.waitForExit() == 2, "\(run.errors)")
    #expect(run.output.split(separator: "\n").count == 2)
    #expect(run.errors.hasPrefix("switchover: "))
    #expect(run.errors.contains("no-such-command"), "\(run.errors)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("arguments that are no JSON object are a local error")
  func wrongArguments() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(["qmp", pair.source.monitorPaths[0], "query-status", "{nonsense"])
    #expect(run.waitForExit() == 1)
    #expect(!run.errors.isEmpty)
  }

  @Test("events are followed in QEMU's own form until there were enough")
  func events() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      ["qmp", pair.source.monitorPaths[0], "query-status", "--events", "--count", "2"])
    #expect(run.wait { !$0.output.isEmpty })
    try pair.source.monitor.execute("stop")
    try pair.source.monitor.execute("cont")
    #expect(run.waitForExit() == 0, "\(run.errors)")
    let objects = try run.objects()
    #expect(objects.compactMap { $0["event"] as? String } == ["STOP", "RESUME"])
    let timestamp = try #require(objects.last?["timestamp"] as? [String: Any])
    let seconds = try #require(timestamp["seconds"] as? Int)
    #expect(abs(Double(seconds) - Date().timeIntervalSince1970) < 600)
  }

  @Test("an interruption ends the following, and is no failure")
  func interruption() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(["qmp", pair.source.monitorPaths[0], "query-status", "--events"])
    #expect(run.wait { !$0.output.isEmpty })
    run.send(SIGINT)
    #expect(run.waitForExit() == 0, "\(run.errors)")
  }

  @Test("a reader that has had enough ends the following")
  func readerGone() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      shell: "\"$SWITCHOVER\" qmp \(pair.source.monitorPaths[0]) query-status --events | head -n 2")
    // Until the reader's end shows in a write.
    #expect(
      try run.wait { _ in
        try pair.source.monitor.execute("stop")
        try pair.source.monitor.execute("cont")
        return !run.isRunning
      })
    #expect(run.waitForExit() == 0, "\(run.errors)")
  }

  @Test("a monitor's end while events are followed is told")
  func monitorEnds() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(["qmp", pair.source.monitorPaths[0], "query-status", "--events"])
    #expect(run.wait { !$0.output.isEmpty })
    pair.source.kill()
    #expect(run.waitForExit() == 1)
    #expect(run.errors.hasPrefix("switchover: "))
  }

  @Test("a monitor that another client holds is said to be busy, without a hang")
  func busy() throws {
    let pair = try QEMUPair()
    let holder = try HarnessMonitor(.unix(pair.source.monitorPaths[0]))
    let run = try CommandRun(
      ["qmp", pair.source.monitorPaths[0], "query-status", "--timeout", "2s"])
    #expect(run.waitForExit() == 1)
    #expect(run.errors.contains("another client"), "\(run.errors)")
    holder.close()
  }

  @Test("what is no monitor, or nobody, is told", arguments: ["/nonexistent/monitor", "ftp:x"])
  func nobodyThere(address: String) throws {
    let run = try CommandRun(["qmp", address, "query-status"])
    #expect(run.waitForExit() == 1)
    #expect(run.errors.hasPrefix("switchover: "), "\(run.errors)")
  }
}
