import Foundation
import QEMUHarness
import Testing

/// A daemon lives for months: nothing may be lost in it.
@Suite("Memory", .serialized)
struct MemoryTests {
  @Test("the examples lose nothing", arguments: ["migrate", "epoll-loop", "cancel", "qmp"])
  func examplesUnderValgrind(name: String) throws {
    let pair = try QEMUPair()
    let arguments =
      switch name {
      case "cancel": pair.addresses + ["0"]
      case "qmp": [pair.source.monitorPaths[0], "query-commands"]
      default: pair.addresses
      }
    let program = try BuiltLibrary.compile(
      name, of: BuiltLibrary.examples, in: pair.directory)
    let command = try Command(
      [
        "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite,indirect",
        "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99", program,
      ] + arguments, in: pair.directory)
    #expect(try command.status() == 0, "\(command.output)\(command.errors)")
  }

  @Test("a thousand rounds take no more than ten")
  func rounds() throws {
    let pair = try QEMUPair()
    let program = try BuiltLibrary.compile(
      "rounds", of: BuiltLibrary.programs, in: pair.directory)
    let output = try Command([program, "1000"] + pair.addresses, in: pair.directory)
      .expectSuccess()
    let use = output.split(separator: "\n").map { $0.split(separator: " ").compactMap { Int($0) } }
    try #require(use.count == 2 && use.allSatisfy { $0.count == 3 }, "\(output)")
    #expect(use[1][1] <= use[0][1], "bytes in use: \(output)")
    // A page here and there is the allocator's business.
    #expect(use[1][2] - use[0][2] <= 16, "resident pages: \(output)")
  }
}
