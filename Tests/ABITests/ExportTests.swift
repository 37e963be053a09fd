import Foundation
import QEMUHarness
import Testing

/// What the built files show to the linker, and what they ask of it.
@Suite("Built files")
struct ExportTests {
  @Test("the library shows the header's functions and nothing else")
  func symbols() throws {
    let header = try String(
      contentsOfFile: BuiltLibrary.checkout + "/include/switchover.h", encoding: .utf8
    )
    .replacing(#/(?s)/\*.*?\*//#, with: "")
    let declared = Set(header.matches(of: #/\b(swo_\w+)\s*\(/#).map { String($0.1) })
    let shown = try run(["nm", "-D", "--defined-only", BuiltLibrary.path])
      .split(separator: "\n").map { $0.split(separator: " ").last.map(String.init) ?? "" }
    #expect(shown.filter { !$0.hasSuffix("@@SWITCHOVER_0.1") } == [])
    #expect(Set(shown.map { String($0.prefix { $0 != "@" }) }) == declared)
  }

  @Test("the library is hardened, stays loaded and needs only what Debian has")
  func dynamicSection() throws {
    let entries = try run(["readelf", "-dW", BuiltLibrary.path])
    #expect(entries.contains("Library soname: [libswitchover.so.0]"))
    #expect(entries.contains(#/FLAGS_1.*NOW.*NODELETE/#))
    #expect(!entries.contains("RUNPATH") && !entries.contains("RPATH"))
    let allowed: Set = [
      "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libjson-c.so.5",
      "libssh2.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
    ]
    #expect(needed(entries).subtracting(allowed) == [])
    let segments = try run(["readelf", "-lW", BuiltLibrary.path])
    #expect(segments.contains("GNU_RELRO"))
    #expect(segments.contains(#/GNU_STACK.* RW /#))
  }

  @Test("the command line stands on the library and has no core of its own")
  func commandLine() throws {
    let entries = try run(["readelf", "-dW", BuiltLibrary.commandLine])
    #expect(needed(entries).contains("libswitchover.so.0"))
    #expect(!needed(entries).contains("libjson-c.so.5"))
    #expect(!entries.contains("RUNPATH") && !entries.contains("RPATH"))
  }

  @Test("what is installed compiles, links and runs")
  func installation() throws {
    let directory = try TemporaryDirectory()
    let root = directory.file("root")
    try Command(
      ["make", "-C", BuiltLibrary.checkout, "install", "DESTDIR=\(root)", "PREFIX=/usr"],
      in: directory
    ).expectSuccess()
    let environment = [
      "PKG_CONFIG_PATH": root + "/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": root,
      "LD_LIBRARY_PATH": root + "/usr/lib",
    ]
    let version = try run(["pkg-config", "--modversion", "libswitchover"], environment)
    #expect(version.contains(#/^\d+\.\d+\.\d+\n$/#))
    let example = directory.file("migrate")
    let compile = """
      cc -o \(example) \(root)/usr/share/doc/libswitchover/examples/migrate.c \
      $(pkg-config --cflags --libs libswitchover)
      """
    try Command(["sh", "-c", compile], environment: environment, in: directory).expectSuccess()
    #expect(try Command([example], environment: environment, in: directory).status() == 64)
    let printed = try run([root + "/usr/bin/switchover", "--version"], environment)
    #expect(printed.contains(version.trimmingCharacters(in: .whitespacesAndNewlines)))
  }

  @discardableResult
  private func run(_ words: [String], _ environment: [String: String] = [:]) throws -> String {
    try Command(words, environment: environment, in: TemporaryDirectory()).expectSuccess()
  }

  private func needed(_ entries: String) -> Set<String> {
    Set(entries.matches(of: #/\(NEEDED\).*\[(.*)\]/#).map { String($0.1) })
  }
}
