import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness
import Testing

/// The carriers, each demanded and left to choose.
let carriers: [swo_ssh_carrier] = [.SWO_SSH_AUTO, .SWO_SSH_LIBSSH2, .SWO_SSH_SYSTEM]

/// A pair whose target is reached by ssh alone, and the proofs that nothing stays behind.
final class TunnelSituation {
  let base: Situation
  let server: SSHServer
  /// Between us and sshd.
  let relay: Relay

  init(
    _ version: QEMUVersion = .system72, server options: SSHServer.Options = SSHServer.Options(),
    _ change: (inout QEMUPair.Options) -> Void = { _ in }
  ) throws {
    server = try SSHServer(options)
    relay = try Relay(listeningOn: .tcp(0), forwardingTo: .tcp(server.port))
    base = try Situation(version, change)
  }

  /// A migration through the tunnel.
  func migration(
    _ carrier: swo_ssh_carrier, _ handOver: swo_hand_over = .SWO_HAND_OVER_NONE,
    options: [String] = [],
    _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
  ) throws -> MigrationUnderTest {
    try base.migration(handOver) { settings in
      settings.targetMonitor = server.address(base.target.monitorPaths[0])
      settings.ssh = ssh(carrier, options: options)
      change(&settings)
    }
  }

  func ssh(_ carrier: swo_ssh_carrier, options: [String] = []) -> MigrationUnderTest.SSH {
    var port = server.port
    if case .tcp(let number) = relay.endpoint { port = number }
    return MigrationUnderTest.SSH(
      carrier: carrier, command: server.command(options, port: port))
  }

  // MARK: - Proofs

  /// No child of this process runs ssh, and the private directory is gone.
  func expectNothingLeft(
    of migration: MigrationUnderTest, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(sshChildren() == [], sourceLocation: sourceLocation)
    for directory in migration.tunnelDirectories {
      #expect(
        access(directory, F_OK) != 0, "\(directory) is still there", sourceLocation: sourceLocation)
    }
  }

  /// Nothing of the user's key is in the texts for people, nor in what the process list shows of the
  /// children.
  func expectNothingSecret(
    in migration: MigrationUnderTest, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let key = String(decoding: readFile(server.directory.file("user")) ?? [], as: UTF8.self)
    let secrets = key.split(separator: "\n").filter { !$0.hasPrefix("-----") }
    #expect(secrets.count > 2, sourceLocation: sourceLocation)
    var shown = migration.log + migration.warnings + [migration.summary]
    for child in sshChildren() {
      for file in ["cmdline", "environ"] {
        shown.append(String(decoding: readFile("/proc/\(child)/\(file)") ?? [], as: UTF8.self))
      }
    }
    for text in shown {
      #expect(!secrets.contains { text.contains($0) }, "\(text)", sourceLocation: sourceLocation)
    }
  }

  /// The ssh processes that this process has started, running or not collected.
  func sshChildren() -> [Int32] {
    guard let processes = opendir("/proc") else { return [] }
    defer { closedir(processes) }
    var found: [Int32] = []
    while let entry = readdir(processes) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard let pid = Int32(name), let line = readFile("/proc/\(pid)/stat") else { continue }
      let text = String(decoding: line, as: UTF8.self)
      guard let end = text.lastIndex(of: ")"), text[..<end].hasSuffix("(ssh"),
        text[text.index(after: end)...].split(separator: " ").dropFirst().first
          == "\(getpid())"
      else { continue }
      found.append(pid)
    }
    return found
  }
}

extension MigrationUnderTest {
  /// The private directories that the log speaks of.
  var tunnelDirectories: [String] {
    log.compactMap { line in
      guard let range = line.firstRange(of: ", in /") else { return nil }
      return "/" + line[range.upperBound...]
    }
  }

  /// What the log says about who carries what.
  func carries(_ what: String) -> String? {
    for line in log {
      guard let range = line.firstRange(of: "\(what) by ") else { continue }
      return line[range.upperBound...].hasPrefix("libssh2") ? "libssh2" : "ssh"
    }
    return nil
  }
}
