import Glibc
import MigrationEngine
import Platform
import Testing

@testable import SSH

/// Everything here runs one test at a time: descriptors and children are the whole process's.
@Suite(.serialized) struct SSHTests {}

/// How long a test waits for anything before it fails.
let patience: Int64 = 60_000_000_000

struct TestFailure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func now() -> MonotonicInstant { MonotonicInstant(nanoseconds: MonotonicClock.now) }

/// A directory that goes away with its owner.
final class TemporaryDirectory: Sendable {
  let path: String

  init() {
    var template = Array("/tmp/ssh-tests-XXXXXX".utf8CString)
    path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
  }

  deinit { remove() }

  func remove() { _ = try? run("rm", "-rf", path) }

  func write(_ name: String, _ text: String, mode: mode_t = 0o600) throws -> String {
    let path = "\(self.path)/\(name)"
    unlink(path)
    let number = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard number >= 0 else { throw TestFailure("cannot write \(path)") }
    defer { close(number) }
    let bytes = Array(text.utf8)
    guard Glibc.write(number, bytes, bytes.count) == bytes.count else {
      throw TestFailure("cannot write \(path)")
    }
    return path
  }
}

/// Runs a program to its end; its output. Throws unless it exits with 0.
@discardableResult
func run(_ arguments: String...) throws -> String {
  var ends: [Int32] = [0, 0]
  pipe(&ends)
  for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
  let child = try ChildProcess(arguments: arguments, output: ends[1], error: ends[1])
  close(ends[1])
  let output = readAll(ends[0])
  close(ends[0])
  guard end(of: child) == .exited(code: 0) else {
    throw TestFailure("\(arguments.joined(separator: " ")): \(output)")
  }
  return output
}

func readAll(_ descriptor: Int32) -> String {
  var bytes: [UInt8] = []
  var room = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(descriptor, &room, room.count)
    if count < 0, errno == EINTR { continue }
    if count <= 0 { break }
    bytes += room.prefix(count)
  }
  return String(decoding: bytes, as: UTF8.self)
}

func readFile(_ path: String) -> String {
  let number = open(path, O_RDONLY | O_CLOEXEC)
  guard number >= 0 else { return "" }
  defer { close(number) }
  return readAll(number)
}

/// Waits for a child's end.
@discardableResult
func end(of child: ChildProcess) -> ChildStatus {
  let end = MonotonicClock.now + patience
  while MonotonicClock.now < end {
    let status = child.reap()
    if status != .running { return status }
    var entry = pollfd(fd: child.exitDescriptor?.number ?? -1, events: Int16(POLLIN), revents: 0)
    poll(&entry, 1, 100)
  }
  return .running
}

/// The descriptors of this process, with what they are.
func openDescriptors() -> [String] {
  (0..<1024).compactMap { number in
    var path = [CChar](repeating: 0, count: 200)
    let count = readlink("/proc/self/fd/\(number)", &path, 199)
    guard count > 0 else { return nil }
    let text = String(decoding: path.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return "\(number) \(text)"
  }
}

/// Keys and directories that all tests share; made once, removed at exit.
struct Fixture: Sendable {
  static let shared = Fixture()

  let directory = TemporaryDirectory()
  let passphrase = "correct horse"
  let user: String

  private init() {
    user = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? "root"
    atexit { Fixture.shared.directory.remove() }
    do {
      for type in ["ed25519", "ecdsa", "rsa"] {
        for name in ["host", "user"] { try makeKey("\(name)_\(type)", type: type) }
      }
      for bits in ["384", "521"] { try makeKey("user_ecdsa\(bits)", type: "ecdsa", bits: bits) }
      try makeKey("user_stranger", type: "ed25519")
      try makeKey("host_other", type: "ed25519")
      try makeKey("user_locked", type: "ed25519", passphrase: passphrase)
      try makeKey("user_ecdsa_locked", type: "ecdsa", passphrase: passphrase)
    } catch {
      Issue.record("cannot make keys: \(error)")
    }
  }

  func key(_ name: String) -> String { "\(directory.path)/\(name)" }

  /// `type base64` of a key.
  func publicKey(_ name: String) -> String {
    readFile(key(name) + ".pub").split(separator: " ").prefix(2).joined(separator: " ")
  }

  /// The fingerprint as ssh-keygen prints it.
  func fingerprint(_ name: String) throws -> String {
    String(try run("ssh-keygen", "-l", "-f", key(name) + ".pub").split(separator: " ")[1])
  }

  private func makeKey(
    _ name: String, type: String, bits: String? = nil, passphrase: String = ""
  ) throws {
    if let bits {
      try run("ssh-keygen", "-q", "-t", type, "-b", bits, "-N", passphrase, "-f", key(name))
    } else {
      try run("ssh-keygen", "-q", "-t", type, "-N", passphrase, "-f", key(name))
    }
  }
}

/// A port of loopback that was free a moment ago.
func unusedPort() throws -> UInt16 {
  let (listener, port) = try listen()
  listener.close()
  return port
}

/// A listening TCP socket on loopback.
func listen(backlog: Int32 = 16) throws -> (Descriptor, UInt16) {
  let descriptor = Descriptor(
    owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let status = withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
      bind(descriptor.number, generic, length) == 0
        && Glibc.listen(descriptor.number, backlog) == 0
        && getsockname(descriptor.number, generic, &length) == 0
    }
  }
  guard status else { throw TestFailure("cannot listen") }
  return (descriptor, UInt16(bigEndian: address.sin_port))
}

/// A listening unix socket.
func listen(path: String) throws -> Descriptor {
  let descriptor = Descriptor(
    owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  withUnsafeMutableBytes(of: &address.sun_path) { room in
    room.copyBytes(from: path.utf8.prefix(107))
  }
  let status = withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
      bind(descriptor.number, generic, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
        && Glibc.listen(descriptor.number, 64) == 0
    }
  }
  guard status else { throw TestFailure("cannot listen at \(path)") }
  return descriptor
}

/// A connected, non-blocking socket.
func connect(to port: UInt16) throws -> Descriptor {
  guard let address = SocketAddress(numericHost: "127.0.0.1", port: port) else {
    throw TestFailure("no address")
  }
  let connection = try StreamSocket.connect(to: address)
  if !connection.isEstablished {
    var entry = pollfd(
      fd: connection.descriptor.number, events: Int16(POLLOUT), revents: 0)
    poll(&entry, 1, 20_000)
    try StreamSocket.finishConnecting(connection.descriptor)
  }
  return connection.descriptor
}
