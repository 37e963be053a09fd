import Foundation
import QEMUHarness
import Testing

/// The examples do what their comments say, with real QEMUs and the library as it is shipped.
@Suite("C examples", .serialized)
struct ExampleTests {
  @Test("migrate moves the guest", arguments: QEMUVersion.allCases)
  func migrate(version: QEMUVersion) throws {
    let pair = try QEMUPair(.init(version))
    let command = try start("migrate", pair.addresses, in: pair.directory)
    #expect(try command.status() == 0, "\(command.errors)")
    #expect(command.output.contains("blackout "), "\(command.output)")
    try pair.expectGuestMoved()
  }

  @Test func migrateSaysWhoKeepsTheGuestWhenTheTargetIsMissing() throws {
    let pair = try QEMUPair()
    let nowhere = pair.directory.file("nowhere.sock")
    let command = try start(
      "migrate", [pair.source.monitorPaths[0], nowhere, pair.migrationAddress], in: pair.directory)
    #expect(try command.status() == 1)
    #expect(command.output.contains("target"), "\(command.output)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("epoll-loop moves the guest and hands it over before it resumes")
  func epollLoop() throws {
    let pair = try QEMUPair()
    let command = try start("epoll-loop", pair.addresses, in: pair.directory)
    let output = try command.expectSuccess()
    #expect(output.contains("hand-over: recorded"))
    #expect(output.contains("phase: transferring"))
    try pair.expectGuestMoved()
  }

  @Test("cancel leaves the guest on the source, and the source as it was")
  func cancel() throws {
    let pair = try QEMUPair()
    let command = try start("cancel", pair.addresses + ["65536"], in: pair.directory)
    try command.waitForOutput("phase: transferring")
    command.send(SIGINT)
    #expect(try command.status() == 1, "\(command.output)\(command.errors)")
    #expect(command.output.contains("cancelling"))
    #expect(pair.ticks.isTicking(.source))
    try pair.ticks.assertSilent(.target)
    #expect(try pair.source.monitor.migrationStatus() == "cancelled")
  }

  @Test("cancel without a signal moves the guest")
  func cancelNotAsked() throws {
    let pair = try QEMUPair()
    let command = try start("cancel", pair.addresses + ["0"], in: pair.directory)
    try command.expectSuccess()
    try pair.expectGuestMoved()
  }

  @Test func qmpRunsACommand() throws {
    let pair = try QEMUPair()
    let monitor = pair.source.monitorPaths[0]
    let query = try start("qmp", [monitor, "query-status"], in: pair.directory)
    #expect(try query.expectSuccess().contains("running"))
    let refused = try start("qmp", [monitor, "getfd", "{\"fdname\": \"a\"}"], in: pair.directory)
    #expect(try refused.status() == 1)
    #expect(refused.errors.contains("getfd"))
    let stop = try start("qmp", [monitor, "stop"], in: pair.directory)
    #expect(try stop.expectSuccess().contains("STOP"))
    let nowhere = try start(
      "qmp", [pair.directory.file("nowhere"), "query-status"], in: pair.directory)
    #expect(try nowhere.status() == 2)
  }

  private func start(
    _ name: String, _ arguments: [String], in directory: TemporaryDirectory
  ) throws -> Command {
    let program = try BuiltLibrary.compile(name, of: BuiltLibrary.examples, in: directory)
    return try Command([program] + arguments, in: directory)
  }
}

extension QEMUPair {
  /// What the programs are given: the first monitors of source and target, and the uri.
  var addresses: [String] {
    [source.monitorPaths[0], target.monitorPaths[0], migrationAddress]
  }

  /// The guest ticks on the target with nothing lost, and the source has been ended.
  func expectGuestMoved() throws {
    #expect(ticks.isTicking(.target))
    #expect(source.waitForExit() == .exited(status: 0))
    try ticks.assertNothingLost()
  }
}
