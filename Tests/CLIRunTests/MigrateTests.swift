import Foundation
import QEMUHarness
import Testing

@Suite("switchover migrate", .serialized)
struct MigrateTests {
  @Test(
    "moves the guest, ends the source, and accounts for the blackout",
    arguments: QEMUVersion.allCases)
  func movesTheGuest(version: QEMUVersion) throws {
    let pair = try QEMUPair(.init(version))
    let drawing = pair.directory.file("ledger.svg")
    let run = try CommandRun(
      pair.migration + ["--json", "--ledger-svg", drawing])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    #expect(run.errors.isEmpty)

    let objects = try run.objects()
    let phases = objects.filter { $0["event"] as? String == "phase" }.map { $0["phase"] as? String }
    #expect(phases.contains("transferring") && phases.contains("activating"), "\(run.output)")
    let end = try #require(objects.last)
    #expect(end["event"] as? String == "finished")
    #expect(end["end"] as? String == "completed")
    #expect(end["owner"] as? String == "target")
    #expect(end["exit_status"] as? Int == 0)
    let blackout = try #require(end["blackout_us"] as? Int)
    let parts = try #require(end["ledger"] as? [[String: Any]])
    #expect(parts.reduce(0) { $0 + ($1["length_us"] as? Int ?? 0) } == blackout)
    #expect(blackout > 0)
    #expect(FileManager.default.contents(atPath: drawing)?.isEmpty == false)
    #expect(end["journal"] as? String == pair.journal)
    #expect(FileManager.default.contents(atPath: pair.journal)?.isEmpty == false)

    #expect(pair.source.waitForExit() == .exited(status: 0))
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertNothingLost()
  }

  @Test("prints a table for people, and keeps the source that is to be kept")
  func printsATable() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(pair.migration + ["--source-end", "keep"])
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output.contains("where the blackout went"))
    #expect(run.output.contains("source STOP → target RESUME"))
    #expect(run.output.contains("vm 100"))
    #expect(run.errors.contains(" s  transferring"))
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertSilent(.source)
    #expect(pair.source.exit == nil)
  }

  @Test(
    "an interruption while memory travels leaves the guest on the source")
  func interruption() throws {
    let pair = try QEMUPair(.busy)
    let run = try CommandRun(pair.migration + ["--bandwidth", "1M", "--json"])
    #expect(run.wait { $0.output.contains(#""event":"progress""#) })
    run.send(SIGINT)
    #expect(run.waitForExit() == 10, "\(run.errors)\(run.output)")
    let objects = try run.objects()
    let cancel = try #require(objects.first { $0["event"] as? String == "cancel" })
    #expect(cancel["too_late"] as? Bool == false)
    #expect(objects.last?["end"] as? String == "cancelled")
    #expect(objects.last?["owner"] as? String == "source")
    #expect(pair.ticks.isTicking(.source))
    try pair.ticks.assertSilent(.target)
  }

  @Test("SIGTERM and a closed terminal cancel too, and say so", arguments: [SIGTERM, SIGHUP])
  func otherInterruptions(signal: Int32) throws {
    let pair = try QEMUPair(.busy)
    let run = try CommandRun(pair.migration + ["--bandwidth", "1M"])
    #expect(run.wait { $0.errors.contains("MiB left") })
    run.send(signal)
    #expect(run.waitForExit() == 10)
    #expect(run.errors.contains("cancelling; the guest stays on the source"))
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("past the point of no return an interruption is told that it is too late (I4)")
  func tooLate() throws {
    let pair = try QEMUPair()
    let gate = pair.directory.file("gate")
    let run = try CommandRun(
      pair.migration
        + ["--hand-over-command", "until test -e \(gate); do sleep 0.02; done"])
    #expect(run.wait { $0.errors.contains("hand-over: until") })
    run.send(SIGINT)
    #expect(run.wait { $0.errors.contains("too late to cancel; the migration goes on") })
    #expect(FileManager.default.createFile(atPath: gate, contents: nil))
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output.contains("hand-over"))
    #expect(pair.ticks.isTicking(.target))
  }

  @Test("the deadline for the transfer cancels it")
  func deadline() throws {
    let pair = try QEMUPair(.busy)
    let run = try CommandRun(
      pair.migration + ["--bandwidth", "1M", "--deadline", "300ms"])
    #expect(run.waitForExit() == 10)
    #expect(run.errors.contains("owner: source"))
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("a monitor that another client holds is named, and nothing is changed")
  func busyMonitor() throws {
    let pair = try QEMUPair()
    let holder = try HarnessMonitor(.unix(pair.target.monitorPaths[0]))
    let run = try CommandRun(pair.migration + ["--json"])
    #expect(run.waitForExit() == 10, "\(run.output)")
    let failure = try #require(try run.objects().last?["failure"] as? [String: Any])
    #expect(failure["name"] as? String == "monitor-busy")
    #expect(failure["side"] as? String == "target")
    holder.close()
    #expect(pair.ticks.isTicking(.source))
    #expect(try pair.target.monitor.runState() == "inmigrate")
  }

  @Test("a wrong setting is a local error, before anything is started")
  func wrongSetting() throws {
    let pair = try QEMUPair()
    for extra in [
      ["--capability", "return-path=on"], ["--parameter", "multifd-channels={"],
      ["--ledger-svg", pair.directory.file("nowhere/ledger.svg")], ["--source", "nonsense:x"],
    ] {
      let run = try CommandRun(pair.migration + extra)
      #expect(run.waitForExit() == 1, "\(extra) \(run.errors)")
      #expect(run.errors.hasPrefix("switchover: "), "\(run.errors)")
      #expect(run.output.isEmpty)
    }
    #expect(pair.ticks.isTicking(.source))
    #expect(try pair.target.monitor.runState() == "inmigrate")
  }
}

@Suite("switchover migrate with a hand-over", .serialized)
struct HandOverTests {
  @Test("the command knows the migration, and its success lets the guest resume")
  func done() throws {
    let pair = try QEMUPair()
    let file = pair.directory.file("told")
    let run = try CommandRun(
      pair.migration
        + [
          "--hand-over-command",
          "echo moving; printf '%s|' \"$SWO_NAME\" \"$SWO_SOURCE\" \"$SWO_TARGET\" \"$SWO_URI\" "
            + "\"$SWO_HAND_OVER\" > \(file)",
        ])
    #expect(run.waitForExit() == 0, "\(run.errors)")
    let told = String(decoding: FileManager.default.contents(atPath: file) ?? Data(), as: UTF8.self)
    #expect(
      told.split(separator: "|").map(String.init) == [
        "vm 100", pair.source.monitorPaths[0], pair.target.monitorPaths[0], pair.migrationAddress,
        "before-resume",
      ])
    #expect(run.errors.contains("moving"))
    #expect(run.errors.contains("hand-over done: the command exited with 0"))
    #expect(pair.ticks.isTicking(.target))
  }

  @Test("a command that certainly did not move ownership gives the guest back to the source")
  func failed() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      pair.migration + ["--hand-over-command", "exit 1"])
    #expect(run.waitForExit() == 10, "\(run.errors)")
    #expect(run.errors.contains("hand-over failed: the command exited with 1"))
    #expect(run.errors.contains("owner: source"))
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("a command whose outcome is unknown leaves the guest standing, with the next step")
  func unknown() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(
      pair.migration + ["--hand-over-command", "kill -9 $$"])
    #expect(run.waitForExit() == 12, "\(run.errors)")
    #expect(run.errors.contains("hand-over unknown: the command was ended by signal 9"))
    #expect(run.errors.contains("next: switchover recover \(pair.journal)\n"), "\(run.errors)")
    #expect(run.errors.contains("owner: nobody"))
    #expect(run.errors.contains("next: "))
    try pair.ticks.assertSilentOnBothSides()
  }

  @Test("after-resume asks again until it is done")
  func afterResume() throws {
    let pair = try QEMUPair()
    let mark = pair.directory.file("mark")
    let run = try CommandRun(
      pair.migration
        + [
          "--hand-over", "after-resume", "--hand-over-command",
          "test -e \(mark) && exit 0; touch \(mark); exit 1",
        ])
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.errors.contains("hand-over failed"))
    #expect(run.errors.contains("hand-over done"))
    #expect(pair.ticks.isTicking(.target))
  }

  @Test("external: whoever watches resumes the target, and the program sees it")
  func external() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(pair.migration + ["--hand-over", "external", "--json"])
    #expect(run.wait { $0.output.contains("hand-over-wanted") }, "\(run.output)\(run.errors)")
    try pair.ticks.assertSilentOnBothSides()
    let cont = try CommandRun(["qmp", pair.target.monitorPaths[0], "cont"])
    #expect(cont.waitForExit() == 0, "\(cont.errors)")
    #expect(run.waitForExit() == 0, "\(run.output)")
    #expect(try run.objects().last?["owner"] as? String == "target")
    #expect(pair.ticks.isTicking(.target))
  }

  @Test("external: an interruption only ends the watching, and says who owns the guest")
  func leavingExternal() throws {
    let pair = try QEMUPair()
    let run = try CommandRun(pair.migration + ["--hand-over", "external"])
    #expect(run.wait { $0.errors.contains("resume it there now") }, "\(run.errors)")
    run.send(SIGINT)
    #expect(run.waitForExit() == 12, "\(run.errors)")
    #expect(run.errors.contains("owner: nobody"))
    try pair.ticks.assertSilentOnBothSides()
  }
}

@Suite("switchover migrate and slow readers", .serialized)
struct ReaderTests {
  @Test("a reader that goes away does not take the guest with it")
  func readerGone() throws {
    let pair = try QEMUPair()
    let arguments = pair.migration.map { "'\($0)'" }.joined(separator: " ")
    let run = try CommandRun(shell: "\"$SWITCHOVER\" \(arguments) --json | head -n 1")
    #expect(run.waitForExit() == 0)
    #expect(pair.ticks.isTicking(.target))
    #expect(pair.source.waitForExit() == .exited(status: 0))
  }

  @Test("on a terminal a line is drawn in place, and taken away")
  func terminal() throws {
    let terminal = try Terminal()
    let pair = try QEMUPair(.busy)
    let run = try CommandRun(
      pair.migration + ["--bandwidth", "1M"], errorsTo: terminal.path)
    #expect(run.wait { _ in terminal.read().contains("▕") })
    run.send(SIGINT)
    #expect(run.waitForExit() == 10)
    let text = terminal.read()
    #expect(text.contains("\r\u{1b}[K\u{1b}[1mtransferring\u{1b}[0m"))
    #expect(text.contains("interrupted: cancelling"))
    // Below the last drawing of the line there is nothing but the result.
    let result = try #require(text.components(separatedBy: "\u{1b}[K").last)
    #expect(result.hasPrefix("\u{1b}[31m✗\u{1b}[0m switchover: vm 100: "), "\(result)")
    #expect(result.split(separator: "\n").count == 1)
  }

  @Test("a terminal that takes nothing more holds up no switchover")
  func stoppedTerminal() throws {
    let terminal = try Terminal()
    terminal.stopOutput()
    let pair = try QEMUPair()
    let run = try CommandRun(pair.migration, errorsTo: terminal.path)
    #expect(pair.ticks.isTicking(.target))
    #expect(pair.source.waitForExit() == .exited(status: 0))
    terminal.resumeOutput()
    #expect(run.wait { _ in !terminal.read().isEmpty })
    #expect(run.waitForExit() == 0)
  }
}
