import ArgumentParser
import Testing

@testable import CLI

@Suite("Arguments")
struct ArgumentTests {
  private static let required = ["--source", "/a", "--target", "tcp:h:1", "--uri", "unix:/m"]

  private func migrate(_ arguments: [String]) throws -> MigrationPlan {
    let command = try SwitchoverCommand.parseAsRoot(["migrate"] + Self.required + arguments)
    return try #require(command as? MigrateCommand).plan
  }

  @Test("what is not said has its default: no hand-over, and the source quits")
  func defaults() throws {
    let plan = try migrate([])
    #expect(plan == MigrationPlan(source: "/a", target: "tcp:h:1", uri: "unix:/m"))
    #expect(plan.handOver == HandOverMode.none)
    #expect(plan.sourceEnd == .quit)
    #expect(plan.tuning == MigrationPlan.Tuning())
    #expect(plan.storage.isEmpty && plan.storage.address == nil)
  }

  @Test func everythingReachesThePlan() throws {
    let plan = try migrate([
      "--incoming-uri", "unix:/i", "--name", "vm 100", "--source-oob", "/a2",
      "--hand-over", "after-resume", "--hand-over-command", "true", "--source-end", "keep",
      "--bandwidth", "100M", "--downtime-limit", "30", "--highest-downtime-limit", "0",
      "--capability", "xbzrle=on", "--capability", "auto-converge=off",
      "--parameter", "multifd-channels=4", "--parameter", "tls-creds=\"x=y\"",
      "--deadline", "10m",
    ])
    var expected = MigrationPlan(source: "/a", target: "tcp:h:1", uri: "unix:/m")
    expected.incomingURI = "unix:/i"
    expected.name = "vm 100"
    expected.outOfBandMonitor = "/a2"
    expected.handOver = .afterResume
    expected.handOverCommand = "true"
    expected.sourceEnd = .keep
    expected.tuning.bytesPerSecond = 100 << 20
    expected.tuning.downtimeLimitMilliseconds = 30
    expected.tuning.highestDowntimeLimitMilliseconds = 0
    expected.tuning.capabilities = [
      CapabilitySetting(name: "xbzrle", isOn: true),
      CapabilitySetting(name: "auto-converge", isOn: false),
    ]
    expected.tuning.parameters = [
      ParameterSetting(name: "multifd-channels", json: "4"),
      ParameterSetting(name: "tls-creds", json: "\"x=y\""),
    ]
    expected.tuning.transferDeadlineMilliseconds = 600_000
    #expect(plan == expected)
  }

  @Test func disksReachThePlan() throws {
    let plan = try migrate([
      "--source-oob", "/a2", "--disk", "d0", "--disk", "d1=e1,bandwidth=50M,node=n1",
      "--take-over", "d2=mirror-d2", "--take-over", "d3=j3,node=n3,write-blocking",
      "--nbd", "tcp:h:2", "--sync-deadline", "15m", "--sync-policy", "throttle", "--yank-after",
      "500ms",
      "--drain-limit", "1s", "--no-fast-order",
    ])
    var expected = MigrationPlan.Storage()
    expected.disks = [
      MirroredDisk(device: "d0", exportName: "d0", targetNode: "d0"),
      MirroredDisk(
        device: "d1", exportName: "e1", targetNode: "n1", bytesPerSecond: 50 << 20),
    ]
    expected.takenOver = [
      TakenOverMirror(device: "d2", jobID: "mirror-d2"),
      TakenOverMirror(device: "d3", jobID: "j3", isWriteBlocking: true, node: "n3"),
    ]
    expected.address = "tcp:h:2"
    expected.listenAddress = "tcp:h:2"
    expected.syncDeadlineMilliseconds = 900_000
    expected.syncPolicy = .throttle
    expected.yankMilliseconds = 500
    expected.drainMilliseconds = 1000
    expected.allowsFastOrder = false
    #expect(plan.storage == expected)
  }

  @Test("an export is made only where the NBD server is started here, or where a node is named")
  func exports() throws {
    let elsewhere = try migrate(["--disk", "d0", "--nbd", "/n", "--nbd-listen", "unix:/m"]).storage
    #expect(elsewhere.listenAddress == "unix:/m")
    #expect(elsewhere.disks.first?.targetNode == "d0")
    let running = try migrate([
      "--disk", "d0=x", "--disk", "d1,node=n1", "--nbd", "/n", "--nbd-listen", "none",
    ]).storage
    #expect(running.address == "/n" && running.listenAddress == nil)
    #expect(running.disks.map(\.targetNode) == [nil, "n1"])
    #expect(running.disks.map(\.exportName) == ["x", "d1"])
  }

  @Test(
    "disks that contradict themselves are refused",
    arguments: [
      ["--disk", "d0"], ["--nbd", "/n"], ["--nbd-listen", "/n"],
      ["--disk", "d0", "--nbd-listen", "none"],
      ["--disk", "", "--nbd", "/n"], ["--disk", "=e", "--nbd", "/n"],
      ["--disk", "d0=", "--nbd", "/n"], ["--disk", "d0,", "--nbd", "/n"],
      ["--disk", "d0,node=", "--nbd", "/n"], ["--disk", "d0,speed=1", "--nbd", "/n"],
      ["--disk", "d0,node=a,node=b", "--nbd", "/n"],
      ["--disk", "d0,bandwidth=fast", "--nbd", "/n"],
      ["--disk", "d0", "--disk", "d0=x", "--nbd", "/n"],
      ["--disk", "d0", "--take-over", "d0=j", "--nbd", "/n"],
      ["--take-over", "d0"], ["--take-over", "d0="], ["--take-over", "d0=j,blocking"],
      ["--take-over", "d0=j,write-blocking,write-blocking"],
      ["--take-over", "d0=j", "--nbd", "/n"],
      ["--sync-policy", "wait", "--take-over", "d0=j"],
      ["--no-fast-order"], ["--sync-deadline", "1m"], ["--drain-limit", "1s"],
      ["--yank-after", "1s", "--take-over", "d0=j"],
      ["--source-oob", "/o", "--yank-after", "49ms", "--take-over", "d0=j"],
      ["--drain-limit", "11m", "--take-over", "d0=j"], ["--journal", ""],
    ])
  func contradictingDisks(arguments: [String]) {
    #expect(throws: (any Error).self) { try migrate(arguments) }
  }

  @Test func aCheckTakesDisksToo() throws {
    let command = try SwitchoverCommand.parseAsRoot(
      ["check"] + Self.required + ["--disk", "d0", "--nbd", "/n"])
    #expect((command as? CheckCommand)?.arguments.plan.storage.disks.map(\.device) == ["d0"])
  }

  @Test("a hand-over command means before-resume unless another mode is asked for")
  func handOverModes() throws {
    #expect(try migrate(["--hand-over-command", "true"]).handOver == .beforeResume)
    #expect(try migrate(["--hand-over", "external"]).handOver == .external)
    #expect(try migrate(["--hand-over", "external"]).sourceEnd == .keep)
  }

  @Test(
    "what contradicts itself is refused",
    arguments: [
      ["--hand-over", "before-resume"], ["--hand-over", "after-resume"],
      ["--hand-over", "none", "--hand-over-command", "true"],
      ["--hand-over", "external", "--hand-over-command", "true"],
      ["--hand-over", "external", "--source-end", "quit"],
      ["--hand-over", "sometimes"], ["--source-end", "explode"],
      ["--bandwidth", "fast"], ["--bandwidth", "-1"], ["--bandwidth", "99999999999T"],
      ["--bandwidth", ""], ["--bandwidth", "M"],
      ["--downtime-limit", "0"], ["--downtime-limit", "2000001"],
      ["--highest-downtime-limit", "100"],
      ["--downtime-limit", "100", "--highest-downtime-limit", "99"],
      ["--capability", "xbzrle"], ["--capability", "xbzrle=perhaps"], ["--capability", "=on"],
      ["--parameter", "multifd-channels="], ["--deadline", "10"], ["--deadline", "s"],
      ["--json", "--quiet"], ["superfluous"],
    ])
  func contradictions(arguments: [String]) {
    #expect(throws: (any Error).self) { try migrate(arguments) }
  }

  @Test func bothMonitorsAndTheUriAreRequired() {
    for missing in stride(from: 0, to: Self.required.count, by: 2) {
      var arguments = Self.required
      arguments.removeSubrange(missing..<missing + 2)
      #expect(throws: (any Error).self) {
        try SwitchoverCommand.parseAsRoot(["migrate"] + arguments)
      }
      #expect(throws: (any Error).self) {
        try SwitchoverCommand.parseAsRoot(["check"] + arguments)
      }
    }
  }

  @Test func ratesHaveBinaryUnits() {
    let rates: [(String, UInt64)] = [
      ("0", 0), ("1", 1), ("4k", 4096), ("4K", 4096), ("100M", 100 << 20), ("2g", 2 << 30),
      ("1T", 1 << 40),
    ]
    for (text, bytes) in rates {
      #expect(ByteRate(argument: text)?.bytesPerSecond == bytes, "\(text)")
    }
  }

  @Test func spansHaveAUnit() {
    let spans: [(String, UInt64?)] = [
      ("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("5", nil),
      ("5d", nil), ("-5s", nil), ("", nil), ("99999999999999999999h", nil),
      ("9999999999999999h", nil),
    ]
    for (text, milliseconds) in spans {
      #expect(TimeSpan(argument: text)?.milliseconds == milliseconds, "\(text)")
    }
  }
}

@Suite("Monitor commands")
struct MonitorCommandTests {
  @Test func aJSONObjectBelongsToTheCommandBeforeIt() throws {
    #expect(
      try MonitorCommand.parse(["stop", "migrate", #"{"uri":"x"}"#, "cont"]) == [
        MonitorCommand(name: "stop"), MonitorCommand(name: "migrate", arguments: #"{"uri":"x"}"#),
        MonitorCommand(name: "cont"),
      ])
    #expect(throws: MonitorCommand.SyntaxError.self) { try MonitorCommand.parse(["{}"]) }
    #expect(throws: MonitorCommand.SyntaxError.self) {
      try MonitorCommand.parse(["a", "{}", "{}"])
    }
  }

  @Test func linesAreCommandsOrRemarks() throws {
    #expect(try MonitorCommand(line: "") == nil)
    #expect(try MonitorCommand(line: "  # stop") == nil)
    #expect(try MonitorCommand(line: " query-status ") == MonitorCommand(name: "query-status"))
    #expect(
      try MonitorCommand(line: "migrate\t{\"uri\": \"a b\"} ")
        == MonitorCommand(name: "migrate", arguments: "{\"uri\": \"a b\"}"))
    #expect(
      try MonitorCommand(line: "migrate{}") == MonitorCommand(name: "migrate", arguments: "{}"))
    #expect(throws: MonitorCommand.SyntaxError.self) { try MonitorCommand(line: "stop cont") }
    #expect(throws: MonitorCommand.SyntaxError.self) { try MonitorCommand(line: "{}") }
  }

  @Test("an event has QEMU's own form")
  func eventLine() {
    #expect(
      QMPCommand.line("STOP", "", 1_700_000_000_000_042)
        == #"{"event":"STOP","timestamp":{"seconds":1700000000,"microseconds":42}}"#)
    #expect(
      QMPCommand.line("MIGRATION", #"{"status":"setup"}"#, 0)
        == #"{"event":"MIGRATION","data":{"status":"setup"},"#
        + #""timestamp":{"seconds":0,"microseconds":0}}"#)
  }

  @Test func theExitStatusTellsRefusedFromUnknown() {
    let expected: [(Int32, Int32)] = [
      (-12, 2), (-5, 3), (-13, 3), (-4, 3), (-14, 3), (-9, 1), (-10, 1), (-11, 1), (-1, 1),
      (-999, 1),
    ]
    for (code, status) in expected {
      #expect(QMPCommand.status(of: LibraryError(code: code, text: "")) == status, "\(code)")
    }
  }

  @Test func timeoutsAndCountsAreChecked() throws {
    let command = try SwitchoverCommand.parseAsRoot(["qmp", "/m", "stop", "--timeout", "2s"])
    #expect((command as? QMPCommand)?.timeout.milliseconds == 2000)
    for arguments in [
      ["/m", "--timeout", "0s"], ["/m", "--timeout", "11m"], ["/m", "--count", "1"], ["/m", "{}"],
      [],
    ] {
      #expect(throws: (any Error).self, "\(arguments)") {
        try SwitchoverCommand.parseAsRoot(["qmp"] + arguments)
      }
    }
  }
}
