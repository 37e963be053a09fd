import Glibc

/// A QEMU that the tests run against.
public enum QEMUVersion: String, Sendable, CaseIterable, CustomStringConvertible {
  /// QEMU 7.2, as installed from Debian 12.
  case system72
  /// QEMU 10.0 from Debian 12's backports, unpacked into `.deps` of the checkout.
  case backports100

  public var description: String {
    switch self {
    case .system72: "QEMU 7.2"
    case .backports100: "QEMU 10.0"
    }
  }

  /// What `query-version` reports as major and minor number.
  public var number: (major: Int64, minor: Int64) {
    switch self {
    case .system72: (7, 2)
    case .backports100: (10, 0)
    }
  }

  /// The program; throws if it is missing, which fails the test.
  public var executable: String {
    get throws { try program("qemu-system-x86_64") }
  }

  /// The disk image tool of the same version; throws if it is missing.
  public var imageTool: String {
    get throws { try program("qemu-img") }
  }

  private func program(_ name: String) throws -> String {
    let path =
      switch self {
      case .system72: "/usr/bin/\(name)"
      case .backports100: Self.checkout + "/.deps/qemu-10.0/bin/\(name)"
      }
    guard access(path, X_OK) == 0 else {
      throw HarnessError("\(self) is missing: no program \(path); `make deps` provides it")
    }
    return path
  }

  /// The root of the checkout, found from this file's place in it.
  private static var checkout: String {
    #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined()
  }
}
