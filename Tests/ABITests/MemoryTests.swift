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
    let library = try BuiltLibrary.withoutDebugInformation(in: pair.directory)
    // What is undefined is not judged: Swift keeps an enumeration's case and one bit of its payload
    // in the same byte, and valgrind takes a comparison of the byte for one of the bit.
    let command = try Command(
      [
        "valgrind", "--quiet", "--undef-value-errors=no", "--leak-check=full",
        "--show-leak-kinds=definite,indirect",
        "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99", program,
      ] + arguments,
      environment: [
        "LD_LIBRARY_PATH": URL(filePath: library).deletingLastPathComponent().path
      ], in: pair.directory)
    #expect(try command.status() == 0, "\(command.output)\(command.errors)")
  }

  @Test("a thousand rounds take no more than ten")
  func rounds() throws {
    let pair = try QEMUPair()
    let program = try BuiltLibrary.compile(
      "rounds", of: BuiltLibrary.programs, in: pair.directory)
    // Without the allocator's cache, whose free pieces count as used.
    let output = try Command(
      [program, "1000", pair.directory.file("played.sock")] + pair.addresses,
      environment: ["GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"], in: pair.directory
    ).expectSuccess()
    let use = output.split(separator: "\n").map { $0.split(separator: " ").compactMap { Int($0) } }
    try #require(use.count == 2 && use.allSatisfy { $0.count == 3 }, "\(output)")
    #expect(use[1][1] <= use[0][1], "bytes in use: \(output)")
    // Code is paged in when it first runs; a page lost in a round would be fifteen times as much.
    #expect(use[1][2] - use[0][2] <= 64, "resident pages: \(output)")
  }
}
