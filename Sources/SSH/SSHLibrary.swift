import CSSHTransport

/// What the libssh2 that is loaded can do, found out at run time.
///
/// Headers say nothing here: a program built on one release runs with the library of another.
public struct SSHLibrary: Hashable, Sendable {
  /// The release, such as `1.10.0`.
  public let version: String
  /// Whether RSA keys work with today's servers: they demand SHA-2 signatures, which came with
  /// 1.11. Without them neither an RSA user key nor a host that has only an RSA key can be used.
  public let canUseRSASHA2: Bool

  /// The library that is loaded.
  public static var loaded: SSHLibrary {
    SSHLibrary(version: ssh_library_version().map(String.init(cString:)) ?? "0")
  }

  /// A library of the given release, whatever is loaded.
  public init(version: String) {
    self.version = version
    let parts = version.split(separator: ".").map { part in
      Int(part.prefix { $0.isASCII && $0.isNumber }) ?? 0
    }
    let major = parts.first ?? 0
    let minor = parts.dropFirst().first ?? 0
    canUseRSASHA2 = (major, minor) >= (1, 11)
  }
}
