import MigrationSession
import Platform

extension Endpoint {
  /// Reads an address: `unix:/path`, `/path`, `tcp:host:port`, `fd:N` or
  /// `ssh://[user@]host[:port]/path`.
  public init(address: String) throws(AddressError) {
    if address.hasPrefix("/") {
      self = try Self.unix(checked: address)
    } else if let path = address.rest(after: "unix:") {
      self = try Self.unix(checked: path)
    } else if let rest = address.rest(after: "tcp:") {
      self = try Self.tcp(rest, of: address)
    } else if let rest = address.rest(after: "ssh://") {
      self = try Self.ssh(rest, of: address)
    } else if let number = address.rest(after: "fd:") {
      guard let value = Int32(number), value >= 0 else {
        throw AddressError("'\(address)' names no descriptor")
      }
      self = .descriptor(value)
    } else {
      throw AddressError(
        "'\(address)' is no address: unix:/path, /path, tcp:host:port, fd:N or "
          + "ssh://[user@]host[:port]/path")
    }
  }

  private static func unix(checked path: String) throws(AddressError) -> Endpoint {
    do throws(SystemError) {
      _ = try SocketAddress(unixPath: path)
    } catch {
      throw AddressError(
        path.isEmpty
          ? "the socket's path is empty"
          : "the socket's path is longer than \(SocketAddress.unixPathLimit) bytes: \(path)")
    }
    return .unix(path: path)
  }

  /// A socket of another host. What goes into an ssh command line must not be taken for an option, nor
  /// mean anything to a shell: OpenSSH hands host and user to `ProxyCommand` and `Match exec`.
  private static func ssh(
    _ rest: String, of address: String
  ) throws(AddressError) -> Endpoint {
    guard let slash = rest.firstIndex(of: "/") else {
      throw AddressError("'\(address)' has no path")
    }
    let path = String(rest[slash...])
    _ = try unix(checked: path)
    guard !path.contains(where: \.isNewline) else { throw AddressError("the path has a line end") }
    var host = rest[..<slash]
    var user: String?
    if let at = host.lastIndex(of: "@") {
      user = String(host[..<at])
      host = host[host.index(after: at)...]
    }
    var port: UInt16?
    if let colon = host.lastIndex(of: ":"), host.last != "]" {
      guard let number = UInt16(host[host.index(after: colon)...]), number > 0 else {
        throw AddressError("'\(address)' has no usable port")
      }
      port = number
      host = host[..<colon]
    }
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    if host.isEmpty, user == nil, port == nil {
      return .ssh(user: nil, host: "", port: nil, path: path)
    }
    for name in [user ?? "u", String(host)] where !isPlain(name) {
      throw AddressError("'\(address)': '\(name)' cannot be given to ssh")
    }
    return .ssh(user: user, host: String(host), port: port, path: path)
  }

  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && !name.hasPrefix("-")
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: "._-+@:%".utf8.contains(byte)
        }
      }
  }

  private static func tcp(_ rest: String, of address: String) throws(AddressError) -> Endpoint {
    guard let colon = rest.lastIndex(of: ":"),
      let port = UInt16(rest[rest.index(after: colon)...]), port > 0
    else { throw AddressError("'\(address)' has no port") }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty else { throw AddressError("'\(address)' has no host") }
    return .tcp(host: String(host), port: port)
  }
}

extension String {
  fileprivate func rest(after prefix: String) -> String? {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
  }
}
