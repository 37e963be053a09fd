import Glibc

/// A real sshd on loopback with keys and configuration of its own, through which the machines of a
/// demonstration reach each other.
final class DemoServer {
  private static let program = "/usr/sbin/sshd"
  /// How long a program may take that makes a key or comes up, milliseconds.
  private static let limit: UInt64 = 60_000
  /// The name that the host key is known by.
  private static let alias = "demo"

  let port: UInt16
  private let directory: String
  private let child: ChildProgram

  /// Makes the keys, starts the server and waits until it listens.
  init(in directory: DemoDirectory) throws {
    self.directory = directory.path
    let (listener, port) = try Self.reservePort()
    self.port = port
    for name in ["host", "user"] { try Self.makeKey("\(directory.path)/\(name).key") }
    let user = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? "root"
    let path = directory.path
    let server = [
      "ListenAddress 127.0.0.1:\(port)", "HostKey \(path)/host.key", "PidFile none", "UsePAM no",
      // The directory lies where everybody may write.
      "StrictModes no", "AuthorizedKeysFile \(path)/user.key.pub", "PermitRootLogin yes",
      "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PrintMotd no",
    ]
    let client = [
      "Host *", "Port \(port)", "User \(user)", "HostKeyAlias \(Self.alias)",
      "IdentityFile \(path)/user.key", "IdentitiesOnly yes",
      "UserKnownHostsFile \(path)/known_hosts", "GlobalKnownHostsFile none",
    ]
    for (lines, name) in [(server, "sshd_config"), (client, "ssh_config")] {
      _ = try directory.write(Array((lines.joined(separator: "\n") + "\n").utf8), to: name)
    }
    let hostKey = try Self.firstLine(of: "\(path)/host.key.pub")
    _ = try directory.write(Array("\(Self.alias) \(hostKey)\n".utf8), to: "known_hosts")
    // sshd separates its privileges in there, and distributions make it at boot only.
    if getuid() == 0 { mkdir("/run/sshd", 0o755) }
    close(listener)
    child = try ChildProgram(
      [Self.program, "-D", "-e", "-f", "\(path)/sshd_config"], output: .null,
      error: .file("\(path)/sshd.log"))
    try waitUntilItListens()
  }

  deinit {
    child.send(SIGTERM)
    _ = Self.hasEnded(child)
  }

  /// The address by which a unix socket's is reached from another host.
  func address(of local: String) -> String {
    "ssh://127.0.0.1" + (local.hasPrefix("unix:") ? String(local.dropFirst(5)) : local)
  }

  /// How the library gets there.
  var plan: SSHPlan { SSHPlan(command: ["ssh", "-F", "\(directory)/ssh_config"]) }

  private func waitUntilItListens() throws {
    let started = monotonicNanoseconds()
    while (monotonicNanoseconds() - started) / 1_000_000 < Self.limit, !child.hasEnded() {
      if Self.isListening(port: port) { return }
      _ = waitForDescriptors([], timeoutMilliseconds: 20)
    }
    child.send(SIGKILL)
    let last = (try? Self.firstLine(of: "\(directory)/sshd.log")) ?? ""
    throw CommandFailure(local: "\(Self.program) does not listen: \(last)")
  }

  private static func makeKey(_ path: String) throws {
    let child = try ChildProgram(
      ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], output: .null)
    guard hasEnded(child), child.end == .exited(status: 0) else {
      throw CommandFailure(local: "ssh-keygen made no key")
    }
  }

  private static func hasEnded(_ child: ChildProgram) -> Bool {
    let started = monotonicNanoseconds()
    while !child.hasEnded() {
      guard (monotonicNanoseconds() - started) / 1_000_000 < limit else { return false }
      // The child's end interrupts this; the interval is for an end just before it.
      _ = waitForDescriptors([], timeoutMilliseconds: 20)
    }
    return true
  }

  private static func firstLine(of path: String) throws -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CommandFailure(local: systemError("open \(path)")) }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &bytes, bytes.count)
    let text = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    return text.split(separator: "\n").first.map(String.init) ?? ""
  }

  /// A port of loopback that nobody else gets before the descriptor is closed.
  private static func reservePort() throws -> (descriptor: Int32, port: UInt16) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = loopback(port: 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0
      }
    }
    guard status else { throw CommandFailure(local: systemError("find a free port")) }
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }

  private static func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  private static func isListening(port: UInt16) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = loopback(port: port)
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
