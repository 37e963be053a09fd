import Foundation
import QEMUHarness
import Testing

@Suite("switchover recover", .serialized)
struct RecoverTests {
  @Test("a hand-over that nobody finished is settled by the operator's word")
  func handOver() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      pair.migration + ["--hand-over-command", "touch '\(pair.directory.file("asked"))'; sleep 60"])
    #expect(
      run.wait { _ in FileManager.default.fileExists(atPath: pair.directory.file("asked")) })
    let live = try CommandRun(["recover", pair.journal])
    #expect(live.waitForExit() == 1)
    #expect(live.errors.contains("a live process works with this journal"), "\(live.errors)")
    run.send(SIGKILL)
    _ = run.waitForExit()

    let first = try CommandRun(["recover", pair.journal])
    #expect(first.waitForExit() == 12, "\(first.output)\(first.errors)")
    #expect(
      first.errors.contains("\n  switchover recover \(pair.journal) --ownership target\n"),
      "\(first.errors)")
    try pair.ticks.assertSilentOnBothSides()

    let dry = try CommandRun(["recover", pair.journal, "--ownership", "target", "--dry-run"])
    #expect(dry.waitForExit() == 0, "\(dry.errors)")
    #expect(dry.output.contains("would: resume the target"), "\(dry.output)")
    try pair.ticks.assertSilentOnBothSides()

    let second = try CommandRun(["recover", pair.journal, "--ownership", "target"])
    #expect(second.waitForExit() == 0, "\(second.output)\(second.errors)")
    #expect(second.errors.contains("done: resumed the guest on the target"), "\(second.errors)")
    #expect(pair.ticks.isTicking(.target))
    #expect(pair.source.waitForExit() != nil, "the migration was to end the source")
  }

  @Test("a command proves what recovery cannot see")
  func fenceCommand() throws {
    let pair = try QEMUPair()
    let migration = try CommandRun(pair.migration + ["--source-end", "keep"])
    #expect(migration.waitForExit() == 0)
    _ = try pair.target.monitor.execute("stop")
    pair.source.close()
    let addresses = [
      "--source", pair.source.monitorPaths[0], "--target", pair.target.monitorPaths[0],
    ]
    let words = ["--ownership", "none", "--guest-ran", "yes"]
    let refused = try CommandRun(
      ["recover"] + addresses + words + ["--fence-command", "exit 3"])
    #expect(refused.waitForExit() == 13, "\(refused.output)\(refused.errors)")
    #expect(try pair.target.monitor.runState() == "paused")
    let log = pair.directory.file("fenced")
    let proven = try CommandRun(
      ["recover"] + addresses + words
        + ["--fence-command", "echo \"$SWO_SIDE $SWO_MONITOR\" >> '\(log)'"])
    #expect(proven.waitForExit() == 0, "\(proven.output)\(proven.errors)")
    #expect(pair.ticks.isTicking(.target))
    #expect(
      try String(contentsOfFile: log, encoding: .utf8) == "source \(pair.source.monitorPaths[0])\n")
  }

  /// A source that is gone, and a loaded target: only a proof that the source is dead is missing.
  private func pairWithoutSource() throws -> (pair: QEMUPair, arguments: [String]) {
    let pair = try QEMUPair()
    let migration = try CommandRun(pair.migration + ["--source-end", "keep"])
    #expect(migration.waitForExit() == 0)
    _ = try pair.target.monitor.execute("stop")
    pair.source.close()
    let words = [
      "recover", "--source", pair.source.monitorPaths[0], "--target",
      pair.target.monitorPaths[0], "--ownership", "none", "--guest-ran", "yes",
    ]
    return (pair, words)
  }

  @Test("a fence command that takes too long proves nothing, and is ended with its children")
  func fenceTimeout() throws {
    let (pair, arguments) = try pairWithoutSource()
    let started = pair.directory.file("started")
    let run = try CommandRun(
      arguments + [
        "--fence-timeout", "300ms", "--fence-command",
        "trap : TERM; sleep 600 & echo $! > '\(started)'; while :; do wait; done",
      ])
    #expect(run.waitForExit() == 13, "\(run.output)\(run.errors)")
    #expect(
      run.errors.contains(
        "warning: the source is not proven dead: the command had not ended after 300 ms"),
      "\(run.errors)")
    #expect(try pair.target.monitor.runState() == "paused")
    let text = try String(contentsOfFile: started, encoding: .utf8)
    let child = try #require(pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
    let limit = MonotonicTime.now + CommandRun.limit
    while kill(child, 0) == 0, MonotonicTime.now < limit { usleep(10_000) }
    #expect(kill(child, 0) != 0)
  }

  @Test("a program with plain words is the fence command without a shell")
  func fenceProgram() throws {
    let (pair, arguments) = try pairWithoutSource()
    let program = pair.directory.file("fence")
    let script = """
      #!/bin/sh
      echo "$0 $1 $2 $SWO_SIDE $(cat /proc/$PPID/comm)" >"$0.log"

      """
    #expect(
      FileManager.default.createFile(
        atPath: program, contents: Data(script.utf8), attributes: [.posixPermissions: 0o700]))
    let run = try CommandRun(arguments + ["--fence-command", "\(program) node-1  off"])
    #expect(run.waitForExit() == 0, "\(run.output)\(run.errors)")
    #expect(
      try String(contentsOfFile: program + ".log", encoding: .utf8)
        == "\(program) node-1 off source switchover-cli\n")
    #expect(pair.ticks.isTicking(.target))
  }

  @Test("a migration that ends without an owner goes on to fence and recover")
  func fenceAfterMigration() throws {
    let pair = try QEMUPair()
    let relay = try Relay(
      listeningOn: .unix(pair.directory.file("relay.sock")),
      forwardingTo: .unix(pair.target.monitorPaths[0]))
    let (asked, go, fenced) = (
      pair.directory.file("asked"), pair.directory.file("go"), pair.directory.file("fenced")
    )
    let handOver = "touch '\(asked)'; while [ ! -e '\(go)' ]; do sleep 0.05; done; exit 5"
    let run = try CommandRun([
      "migrate", "--source", pair.source.monitorPaths[0], "--target",
      pair.directory.file("relay.sock"), "--uri", pair.migrationAddress, "--journal", pair.journal,
      "--hand-over-command", handOver,
      "--fence-command", "kill -9 \(pair.target.pid) && echo \"$SWO_SIDE\" >>'\(fenced)'",
    ])
    #expect(run.wait { _ in FileManager.default.fileExists(atPath: asked) }, "\(run.errors)")
    relay.close()
    #expect(FileManager.default.createFile(atPath: go, contents: nil))
    #expect(run.waitForExit() == 12, "\(run.output)\(run.errors)")
    #expect(try String(contentsOfFile: fenced, encoding: .utf8) == "target\n")
    #expect(pair.target.waitForExit() != nil)
    try pair.ticks.assertSilentOnBothSides()
    let recovery = try CommandRun([
      "recover", pair.journal, "--fenced", "target", "--ownership", "source", "--target-never-ran",
    ])
    #expect(recovery.waitForExit() == 0, "\(recovery.output)\(recovery.errors)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("journals are listed by what is left to do about them")
  func list() throws {
    let pair = try QEMUPair()
    let folder = pair.directory.file("journals")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    func write(_ name: String, _ text: String) throws {
      let path = "\(folder)/\(name)"
      #expect(
        FileManager.default.createFile(
          atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600]))
    }
    try write("torn.journal", "switchover-journal 1 12")
    try write("foreign.journal", "hello")
    try write("newer.journal", "switchover-journal 7 0 0\n")
    try write("other.txt", "hello")
    let abandoned = "\(folder)/vm_100.journal"
    let run = try CommandRun(
      ["migrate"] + pair.arguments + ["--journal", abandoned]
        + ["--hand-over-command", "touch '\(pair.directory.file("asked"))'; sleep 60"])
    #expect(
      run.wait { _ in FileManager.default.fileExists(atPath: pair.directory.file("asked")) })
    let live = try CommandRun(["recover", "--all", "--directory", folder])
    #expect(live.waitForExit() == 0)
    #expect(live.output.contains("in progress  \(abandoned)"), "\(live.output)")
    run.send(SIGKILL)
    _ = run.waitForExit()

    let open = try CommandRun(["recover", "--all", "--directory", folder, "--json"])
    #expect(open.waitForExit() == 0)
    let states = try open.objects().map {
      [$0["path"] as? String ?? "", $0["state"] as? String ?? ""]
    }
    #expect(
      states == [
        ["\(folder)/foreign.journal", "unusable"], ["\(folder)/newer.journal", "unusable"],
        ["\(folder)/torn.journal", "unusable"], [abandoned, "open"],
      ])
    let text = try CommandRun(["recover", "--all", "--directory", folder])
    #expect(text.waitForExit() == 0)
    #expect(text.output.contains("(vm 100): its migration was abandoned"), "\(text.output)")
    #expect(text.output.contains("next: switchover recover \(abandoned)\n"))
    #expect(text.output.contains("newer than 1"))
    #expect(!text.output.contains("other.txt"))

    for name in ["torn", "foreign", "newer", "missing"] {
      let refused = try CommandRun(["recover", "\(folder)/\(name).journal"])
      #expect(refused.waitForExit() == 1 && !refused.errors.isEmpty, "\(name)")
    }
    let settled = try CommandRun(["recover", abandoned, "--ownership", "source"])
    #expect(settled.waitForExit() != nil)
    let rest = try CommandRun(["recover", "--all", "--directory", folder])
    #expect(rest.waitForExit() == 0)
    #expect(!rest.output.contains(abandoned), "\(rest.output)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test func theTableIsPrinted() throws {
    let text = try CommandRun(["recover", "--table"])
    #expect(text.waitForExit() == 0)
    #expect(text.output.contains("\n1. both-run\n"))
    #expect(text.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
    let json = try CommandRun(["recover", "--table", "--json"])
    #expect(json.waitForExit() == 0)
    let rows = try json.objects()
    #expect(rows.count > 40)
    #expect(rows.allSatisfy { ($0["rule"] as? String)?.isEmpty == false })
  }

  @Test(
    "wrong usage is told",
    arguments: [
      ["recover"], ["recover", "--table", "--all"], ["recover", "x", "--all"],
      ["recover", "x", "--fenced", "both"], ["recover", "x", "--guest-ran", "perhaps"],
      ["recover", "x", "--settle", "2h"],
    ])
  func wrongUsage(arguments: [String]) throws {
    let run = try CommandRun(arguments)
    #expect(run.waitForExit() == 1)
    #expect(run.output.isEmpty && run.errors.contains("Usage: switchover recover"), "\(run.errors)")
  }
}
