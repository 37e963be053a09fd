import Glibc

extension Style {
  /// What a descriptor can show.
  init(of descriptor: Int32) {
    isTerminal = isatty(descriptor) == 1 && Self.variable("TERM") != "dumb"
    hasColor = isTerminal && (Self.variable("NO_COLOR") ?? "").isEmpty
    hasUnicode = Self.localeIsUTF8
    var size = winsize()
    if ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 {
      width = Int(size.ws_col)
    } else {
      width = 100
    }
  }

  private static var localeIsUTF8: Bool {
    // The first that is set decides, as in the C library.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].compactMap(variable).first { !$0.isEmpty } ?? ""
    let name = locale.lowercased()
    return name.hasSuffix("utf-8") || name.hasSuffix("utf8")
  }

  private static func variable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }
}
