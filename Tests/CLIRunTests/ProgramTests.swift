import Foundation
import QEMUHarness
import Testing

@Suite("switchover, as it is started", .serialized)
struct ProgramTests {
  @Test("wrong usage ends with status 1", arguments: [["migrate"], ["frobnicate"], ["--nothing"]])
  func wrongUsage(arguments: [String]) throws {
    let run = try CommandRun(arguments)
    #expect(run.waitForExit() == 1)
    #expect(run.output.isEmpty && run.errors.contains("Usage: switchover"), "\(run.errors)")
  }

  @Test(
    "help and version end with status 0",
    arguments: [[], ["--help"], ["help", "migrate"], ["--version"], ["demo", "--help"]])
  func help(arguments: [String]) throws {
    let run = try CommandRun(arguments)
    #expect(run.waitForExit() == 0)
    #expect(run.errors.isEmpty && !run.output.isEmpty)
  }

  @Test("no help page needs more than 80 columns but for its usage line")
  func helpFits() throws {
    for page in [[], ["migrate"], ["check"], ["recover"], ["qmp"], ["demo"]] {
      let run = try CommandRun(page + ["--help"], variables: ["COLUMNS": "80"])
      #expect(run.waitForExit() == 0)
      for line in run.output.split(separator: "\n") where !line.hasPrefix("USAGE") {
        #expect(line.count <= 80, "\(page): \(line)")
      }
    }
  }

  @Test func theVersionIsTheHeaders() throws {
    let run = try CommandRun(["--version"])
    #expect(run.waitForExit() == 0)
    #expect(run.output.firstMatch(of: #/^switchover \d+\.\d+\.\d+\n$/#) != nil, "\(run.output)")
  }
}

@Suite("switchover demo", .serialized)
struct DemoTests {
  @Test("goes there and back, loses no tick, and leaves nothing", arguments: QEMUVersion.allCases)
  func thereAndBack(version: QEMUVersion) throws {
    let directory = try TemporaryDirectory()
    let run = try CommandRun(
      ["demo", "--qemu", try version.executable], variables: ["TMPDIR": directory.path])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    #expect(run.output.contains("\nA → B\n") && run.output.contains("\nB → A\n"))
    #expect(run.output.contains("none lost, none twice, never on two machines"), "\(run.output)")
    #expect(run.output.split(separator: "\n").count { $0.contains("where the blackout went") } == 2)
    #expect(run.output.split(separator: "\n").count { $0.contains("silent for") } == 2)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test("with a disk loses no write either", arguments: QEMUVersion.allCases)
  func disk(version: QEMUVersion) throws {
    let directory = try TemporaryDirectory()
    let run = try CommandRun(
      ["demo", "--disk", "--qemu", try version.executable], variables: ["TMPDIR": directory.path])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    #expect(run.output.contains("none lost, none twice, never on two machines"), "\(run.output)")
    let writes = run.output.firstMatch(
      of: #/✓ ([\d,]+) writes acknowledged, none missing on A's disk; every other/#)
    let count = try #require(writes, "\(run.output)").1.replacing(",", with: "")
    #expect(try #require(Int(count)) > 0)
    #expect(run.errors.contains(" s  mirroring\n"), "\(run.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test("by ssh loses nothing either, and leaves no sshd")
  func ssh() throws {
    let directory = try TemporaryDirectory()
    let run = try CommandRun(["demo", "--ssh", "--disk"], variables: ["TMPDIR": directory.path])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    #expect(run.output.contains("none lost, none twice, never on two machines"), "\(run.output)")
    #expect(run.output.contains("none missing on A's disk"), "\(run.output)")
    let port = try #require(run.output.firstMatch(of: #/an sshd of its own on port (\d+)\./#)).1
    #expect(Endpoint.tcp(try #require(UInt16(port))).connect() < 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test("an interruption ends both machines and leaves nothing")
  func interruption() throws {
    let directory = try TemporaryDirectory()
    let run = try CommandRun(["demo"], variables: ["TMPDIR": directory.path])
    #expect(run.wait { $0.errors.contains("transferring") }, "\(run.errors)")
    run.send(SIGINT)
    #expect(run.waitForExit() == 10, "\(run.errors)")
    #expect(run.errors.contains("cancelling"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test("a QEMU that is none is a local error")
  func noQEMU() throws {
    let directory = try TemporaryDirectory()
    for program in ["/nonexistent/qemu", "/bin/false"] {
      let run = try CommandRun(
        ["demo", "--qemu", program], variables: ["TMPDIR": directory.path])
      #expect(run.waitForExit() == 1, "\(run.errors)")
      #expect(run.errors.hasPrefix("switchover: "), "\(run.errors)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test("--keep leaves one machine, and says how to end it")
  func keep() throws {
    let directory = try TemporaryDirectory()
    let run = try CommandRun(["demo", "--keep"], variables: ["TMPDIR": directory.path])
    #expect(run.waitForExit() == 0, "\(run.errors)")
    let match = try #require(
      run.output.firstMatch(of: #/qmp (unix:\S+) query-status[\s\S]*kill (\d+); rm -r (\S+)/#))
    let query = try CommandRun(["qmp", String(match.1), "query-status"])
    #expect(query.waitForExit() == 0)
    #expect(query.output.contains("running"))
    #expect(match.3.hasPrefix(directory.path))
    let quit = try CommandRun(["qmp", String(match.1), "quit"])
    #expect(quit.waitForExit() == 0)
  }
}
