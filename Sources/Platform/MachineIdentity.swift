import Glibc

/// Which boot of which machine this is, and whose process numbers are seen: a number from elsewhere
/// means nothing here.
public enum MachineIdentity {
  /// One line without blanks; nil where the kernel does not say.
  public static var current: String? {
    guard let boot = firstLine(of: "/proc/sys/kernel/random/boot_id"),
      let namespace = linkTarget(of: "/proc/self/ns/pid")
    else { return nil }
    return "\(boot) \(namespace)".split(separator: " ").joined(separator: "/")
  }

  private static func firstLine(of path: String) -> String? {
    guard let file = try? Descriptor.made(by: .open, { open(path, O_RDONLY | O_CLOEXEC) }) else {
      return nil
    }
    var bytes = [UInt8](repeating: 0, count: 128)
    let count = result(of: .read) { Glibc.read(file.number, &bytes, bytes.count) }
    guard count > 0 else { return nil }
    let line = bytes[..<count].prefix { $0 != UInt8(ascii: "\n") }
    return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
  }

  private static func linkTarget(of path: String) -> String? {
    var bytes = [CChar](repeating: 0, count: 128)
    let count = result(of: .readLink) { readlink(path, &bytes, bytes.count) }
    guard count > 0 else { return nil }
    return String(decoding: bytes[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
