import ArgumentParser

/// Bytes a second, such as `100M`.
struct ByteRate: ExpressibleByArgument, Equatable {
  var bytesPerSecond: UInt64

  /// Digits and perhaps K, M, G or T for the powers of 1024.
  init?(argument: String) {
    let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
    let unit = argument.last.flatMap { units[Character($0.uppercased())] }
    guard let count = UInt64(digits: argument.dropLast(unit == nil ? 0 : 1)) else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: unit ?? 1)
    guard !overflow else { return nil }
    bytesPerSecond = bytes
  }
}

/// A length of time with its unit, such as `90s`.
struct TimeSpan: ExpressibleByArgument, Equatable {
  var milliseconds: UInt64

  var defaultValueDescription: String {
    milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
  }

  init(milliseconds: UInt64) {
    self.milliseconds = milliseconds
  }

  /// Digits and `ms`, `s`, `m` or `h`.
  init?(argument: String) {
    let units: [(name: String, milliseconds: UInt64)] = [
      ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000),
    ]
    guard let unit = units.first(where: { argument.hasSuffix($0.name) }),
      let count = UInt64(digits: argument.dropLast(unit.name.count))
    else { return nil }
    let (milliseconds, overflow) = count.multipliedReportingOverflow(by: unit.milliseconds)
    guard !overflow else { return nil }
    self.milliseconds = milliseconds
  }
}

extension CapabilitySetting: ExpressibleByArgument {
  init?(argument: String) {
    guard let (name, value) = splitAssignment(argument) else { return nil }
    switch value {
    case "on", "true": self.init(name: name, isOn: true)
    case "off", "false": self.init(name: name, isOn: false)
    default: return nil
    }
  }
}

extension ParameterSetting: ExpressibleByArgument {
  init?(argument: String) {
    guard let (name, json) = splitAssignment(argument) else { return nil }
    self.init(name: name, json: json)
  }
}

extension HandOverMode: ExpressibleByArgument {}
extension SyncPolicy: ExpressibleByArgument {}
extension SourceEnd: ExpressibleByArgument {}

/// Splits `name=value` at the first equals sign; both have at least one character.
private func splitAssignment(_ argument: String) -> (name: String, value: String)? {
  guard let equals = argument.firstIndex(of: "=") else { return nil }
  let (name, value) = (argument[..<equals], argument[argument.index(after: equals)...])
  return name.isEmpty || value.isEmpty ? nil : (String(name), String(value))
}

extension UInt64 {
  /// Decimal digits only, without a sign.
  init?(digits: Substring) {
    guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    self.init(digits)
  }
}
