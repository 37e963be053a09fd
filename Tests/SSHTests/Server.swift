import class QEMUHarness.SSHServer

/// A real sshd on loopback, with the fixture's keys.
final class Server {
  /// What a test puts beside it.
  let directory = TemporaryDirectory()
  private let server: SSHServer

  /// - Parameters:
  ///   - lines: for the configuration, before the common ones, so that they win.
  ///   - authorizedKeys: names of keys that may log in.
  init(
    _ lines: [String] = [], hostKeys: [String] = ["host_ed25519"],
    authorizedKeys: [String] = [
      "user_ed25519", "user_ecdsa", "user_ecdsa384", "user_ecdsa521", "user_rsa", "user_locked",
      "user_ecdsa_locked",
    ]
  ) throws {
    let fixture = Fixture.shared
    var options = SSHServer.Options()
    options.lines = lines
    options.hostKeys = []
    options.hostKeyFiles = hostKeys.map(fixture.key)
    options.authorizedKeys = authorizedKeys.map(fixture.publicKey)
    server = try SSHServer(options)
  }

  var port: UInt16 { server.port }

  var log: String { server.log }

  /// How many lines of the log contain `text`.
  func logCount(_ text: String) -> Int { server.logCount(text) }
}
