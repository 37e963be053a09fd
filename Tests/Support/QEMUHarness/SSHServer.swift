import Glibc

/// A real sshd on loopback, with keys, configuration and log of its own, and the ssh command of a user
/// who may log in.
public final class SSHServer {
  /// How a server is set up.
  public struct Options: Sendable {
    /// The types of its host keys, and of the user's key, as `ssh-keygen -t` has them.
    public var hostKeys = ["ed25519"]
    public var userKey = "ed25519"
    /// Further lines for sshd's configuration, before the common ones, so that they win.
    public var lines: [String] = []
    /// Whether the user's key may log in.
    public var authorizesKey = true
    /// What stands before the user's key in the list of those that may log in.
    public var keyOptions = ""
    /// Files of host keys that are there already; they are not among those known to `command`.
    public var hostKeyFiles: [String] = []
    /// Public keys that may log in, instead of a user's key that is made.
    public var authorizedKeys: [String]?

    public init() {}
  }

  /// The name under which the host key is known, as clusters do it.
  public static let alias = "node2"

  public let port: UInt16
  public let directory: TemporaryDirectory
  private let child: ChildProcess

  /// Starts it and waits until it listens.
  public init(_ options: Options = Options()) throws {
    directory = try TemporaryDirectory()
    // sshd separates its privileges in there, and distributions make it at boot only.
    if getuid() == 0 { mkdir("/run/sshd", 0o755) }
    try Self.makeKeys(options, in: directory)
    var started: (UInt16, ChildProcess)?
    for attempt in 0..<10 where started == nil {
      started = try Self.start(options, attempt, in: directory)
    }
    guard let started else { throw HarnessError("sshd did not start") }
    (port, child) = started
    try writeClientConfiguration()
  }

  /// The ssh command of the user, with known hosts and key; options may follow.
  public func command(_ options: [String] = [], port: UInt16? = nil) -> [String] {
    let words = ["ssh", "-F", directory.file("ssh_config")] + options.flatMap { ["-o", $0] }
    return port.map { words + ["-p", "\($0)"] } ?? words
  }

  /// The address of a socket of the server's host.
  public func address(_ path: String) -> String { "ssh://127.0.0.1\(path)" }

  /// What the server has written to its log.
  public var log: String { String(decoding: readFile(directory.file("log")) ?? [], as: UTF8.self) }

  /// How many lines of the log contain a text.
  public func logCount(_ text: String) -> Int {
    log.split(whereSeparator: \.isNewline).count { $0.contains(text) }
  }

  /// How many channels clients have asked for; needs `LogLevel DEBUG1`.
  public var openedChannels: Int { logCount("server_input_channel_open: ctype") }

  /// Stops listening; logins that stand go on.
  public func stopListening() {
    child.kill()
    _ = child.waitForExit(upTo: .seconds(60))
  }

  /// Makes another key the only known one.
  public func makeHostKeyStrange() throws {
    try Self.keygen("ed25519", directory.file("stranger"))
    try writeKnownHosts(["stranger"])
  }

  /// Makes no key known.
  public func forgetHostKeys() throws { try writeKnownHosts([]) }

  private func writeKnownHosts(_ names: [String]) throws {
    let lines = names.map { "\(Self.alias) \(publicKey($0))\n" }
    try writeFile(Array(lines.joined().utf8), to: directory.file("known_hosts"))
  }

  private func publicKey(_ name: String) -> String {
    let text = String(
      decoding: readFile(directory.file("\(name).pub")) ?? [], as: UTF8.self)
    return text.split(separator: " ").prefix(2).joined(separator: " ")
  }

  private func writeClientConfiguration() throws {
    let user = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? "root"
    let lines = [
      "Host *", "Port \(port)", "User \(user)", "HostKeyAlias \(Self.alias)",
      "IdentityFile \(directory.file("user"))", "IdentitiesOnly yes",
      "UserKnownHostsFile \(directory.file("known_hosts"))", "GlobalKnownHostsFile none",
    ]
    try writeFile(
      Array((lines.joined(separator: "\n") + "\n").utf8), to: directory.file("ssh_config"))
    let hostKeys = readFile(directory.file("host-keys")) ?? []
    try writeKnownHosts(
      String(decoding: hostKeys, as: UTF8.self).split(separator: "\n").map(String.init))
  }

  private static func makeKeys(_ options: Options, in directory: TemporaryDirectory) throws {
    let names = options.hostKeys.map { "host_\($0)" }
    for (name, type) in zip(names, options.hostKeys) { try keygen(type, directory.file(name)) }
    try writeFile(
      Array((names.joined(separator: "\n") + "\n").utf8), to: directory.file("host-keys"))
    if let keys = options.authorizedKeys {
      let text = keys.map { $0 + "\n" }.joined()
      return try writeFile(Array(text.utf8), to: directory.file("authorized_keys"))
    }
    try keygen(options.userKey, directory.file("user"))
    let key = String(decoding: readFile(directory.file("user.pub")) ?? [], as: UTF8.self)
    let line = options.keyOptions.isEmpty ? key : "\(options.keyOptions) \(key)"
    try writeFile(
      options.authorizesKey ? Array(line.utf8) : [], to: directory.file("authorized_keys"))
  }

  private static func keygen(_ type: String, _ path: String) throws {
    let child = try ChildProcess(
      "/usr/bin/ssh-keygen", ["-q", "-t", type, "-N", "", "-f", path],
      standardErrorPath: path + ".log")
    guard child.waitForExit(upTo: .seconds(120)) == .exited(status: 0) else {
      throw HarnessError("ssh-keygen: \(child.standardError)")
    }
  }

  /// Nil where the port was taken in between.
  private static func start(
    _ options: Options, _ attempt: Int, in directory: TemporaryDirectory
  ) throws -> (UInt16, ChildProcess)? {
    let port = try unusedPort()
    let lines =
      options.lines
      + [
        "ListenAddress 127.0.0.1:\(port)", "PidFile none", "UsePAM no", "StrictModes no",
        "PermitRootLogin yes", "AuthorizedKeysFile \(directory.file("authorized_keys"))",
        "PrintMotd no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "LogLevel DEBUG1", "MaxStartups 100",
      ] + options.hostKeys.map { "HostKey \(directory.file("host_\($0)"))" }
      + options.hostKeyFiles.map { "HostKey \($0)" }
    let configuration = directory.file("sshd_config")
    try writeFile(Array((lines.joined(separator: "\n") + "\n").utf8), to: configuration)
    let child = try ChildProcess(
      "/usr/sbin/sshd", ["-D", "-f", configuration, "-E", directory.file("log")],
      standardErrorPath: directory.file("sshd-\(attempt).txt"))
    let deadline = MonotonicTime.now + .seconds(60)
    while .now < deadline {
      let probe = Endpoint.tcp(port).connect()
      if probe >= 0 {
        close(probe)
        return (port, child)
      }
      if child.waitForExit(upTo: .milliseconds(20)) != nil { return nil }
    }
    throw HarnessError("sshd does not listen: \(child.standardError)")
  }

  private static func unusedPort() throws -> UInt16 {
    let descriptor = Endpoint.tcp(0).listen()
    defer { close(descriptor) }
    guard case .tcp(let port) = Endpoint.tcp(0).withPort(of: descriptor), port > 0 else {
      throw HarnessError("no port is free")
    }
    return port
  }
}
