import Foundation
import QEMUHarness
import Testing

@Suite("switchover and a target that is reached by ssh", .serialized)
struct SSHRunTests {
  @Test("check tells each step of the way, and changes nothing")
  func check() throws {
    let (pair, server) = (try QEMUPair(), try SSHServer())
    let run = try CommandRun(["check"] + pair.arguments(by: server))
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output.hasSuffix("\n✓ nothing stands against this migration\n"))
    for words in [
      "host key ssh-ed25519 SHA256:", "known_hosts, line 1)", "monitor by libssh2",
      "key \(server.directory.file("user"))", "memory by ssh",
    ] { #expect(run.output.contains(words), "\(words): \(run.output)") }
    #expect(try pair.target.monitor.runState() == "inmigrate")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("check says what stands against it", arguments: ["auto", "libssh2", "system"])
  func unknownHost(carrier: String) throws {
    let (pair, server) = (try QEMUPair(), try SSHServer())
    try server.forgetHostKeys()
    let run = try CommandRun(
      ["check", "--ssh-carrier", carrier] + pair.arguments(by: server))
    #expect(run.waitForExit() == 10, "\(run.errors)")
    #expect(run.errors.contains(carrier == "system" ? "Host key verification" : "no known key of"))
    #expect(run.output.isEmpty)
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("migrate moves the guest and leaves nothing", arguments: ["auto", "libssh2", "system"])
  func migrate(carrier: String) throws {
    let (pair, server) = (try QEMUPair(), try SSHServer())
    let run = try CommandRun(
      ["migrate", "--verbose", "--journal", "none", "--ssh-carrier", carrier]
        + pair.arguments(by: server))
    #expect(run.waitForExit() == 0, "\(run.errors)")
    #expect(run.output.contains("where the blackout went"))
    #expect(pair.ticks.isTicking(.target))
    #expect(pair.source.waitForExit() == .exited(status: 0))
    let directory = try #require(run.errors.firstMatch(of: #/memory by .*, in (/\S+)/#)).1
    #expect(!FileManager.default.fileExists(atPath: String(directory)))
  }

  /// The directory can be made there, and nothing in it: a file system of two entries, for this
  /// program alone.
  @Test(
    "a disk without room for sockets is named, and nothing is left",
    arguments: ["auto", "libssh2", "system"])
  func noRoom(carrier: String) throws {
    let (pair, server) = (try QEMUPair(), try SSHServer())
    let words = (["check", "--ssh-carrier", carrier] + pair.arguments(by: server)).map { "'\($0)'" }
    let runtime = pair.directory.file("runtime")
    let run = try CommandRun(
      shell: """
        export XDG_RUNTIME_DIR=\(runtime)
        exec unshare $(test "$(id -u)" = 0 || echo --map-root-user) --mount sh -c '
        for place in /run/switchover "$XDG_RUNTIME_DIR"; do
          mkdir -p "$place" && mount -t tmpfs -o mode=700,nr_inodes=2 none "$place"
        done
        "$SWITCHOVER" "$@"; status=$?
        echo "left: $(ls -A /run/switchover "$XDG_RUNTIME_DIR" | grep switchover-)." >&2
        exit $status' - \(words.joined(separator: " "))
        """)
    #expect(run.waitForExit() == 10, "\(run.errors)")
    #expect(run.errors.contains("No space left on device"), "\(run.errors)")
    #expect(run.errors.contains("left: ."), "\(run.errors)")
    #expect(try pair.target.monitor.runState() == "inmigrate")
    #expect(pair.ticks.isTicking(.source))
  }
}

extension QEMUPair {
  /// The arguments that name this pair, its target on another host.
  fileprivate func arguments(by server: SSHServer) -> [String] {
    let command = server.command().joined(separator: " ")
    return [
      "--source", source.monitorPaths[0], "--target", server.address(target.monitorPaths[0]),
      "--uri", migrationAddress, "--name", "vm 100", "--ssh-command", command,
    ]
  }
}
