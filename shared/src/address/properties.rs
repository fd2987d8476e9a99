//! What holds for any address that a stranger writes down, however it is spelt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{prelude::*, test_runner::Config};
use url::Host;

use super::{check_url, is_public};

/// The blocks of IANA's registry of special addresses that are not globally reachable, and multicast.
const SPECIAL_V4: [&str; 14] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// The same for IPv6, but for the blocks that hold an IPv4 address.
const SPECIAL_V6: [&str; 12] = [
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// An address in one of the blocks.
fn special() -> impl Strategy<Value = Ipv4Addr> {
    (proptest::sample::select(&SPECIAL_V4[..]), any::<u32>()).prop_map(|(block, bits)| {
        let block: Ipv4Net = block.parse().unwrap();
        Ipv4Addr::from(u32::from(block.network()) | (bits & u32::from(block.hostmask())))
    })
}

/// One number of an address in decimal, octal or hexadecimal, with zeros before it.
fn number(value: u32, way: u8, zeros: usize) -> String {
    let zeros = "0".repeat(zeros);
    match way % 4 {
        0 => value.to_string(),
        1 => format!("0{zeros}{value:o}"),
        2 => format!("0x{zeros}{value:x}"),
        _ => format!("0X{zeros}{value:X}"),
    }
}

/// The address as hosts of URLs can be written: of one to four numbers, each in any base.
fn spelt(address: Ipv4Addr, parts: u8, ways: [u8; 4], zeros: usize) -> String {
    let bits = u32::from(address);
    let [a, b, c, d] = address.octets().map(u32::from);
    let numbers = match parts % 4 {
        0 => vec![bits],
        1 => vec![a, bits & 0x00FF_FFFF],
        2 => vec![a, b, bits & 0xFFFF],
        _ => vec![a, b, c, d],
    };
    let numbers = numbers.into_iter().zip(ways).map(|(value, way)| number(value, way, zeros));
    numbers.collect::<Vec<_>>().join(".")
}

/// A host that means the same to whoever parses URLs: with a dot at its end, by percent signs, in the digits of East Asia, with
/// what browsers pass over.
fn disguised(host: &str, way: u8) -> String {
    match way % 6 {
        0 => host.to_owned(),
        1 => format!("{host}."),
        2 => host.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        3 => host.chars().map(|c| char::from_u32(u32::from(c) + 0xFEE0).unwrap()).collect(),
        4 => host.chars().map(|c| if c == '.' { '\u{3002}' } else { c }).collect(),
        _ => host.chars().flat_map(|c| [c, '\t', '\n']).collect(),
    }
}

/// The same place inside IPv6: mapped, compatible, translated, by NAT64 or 6to4.
fn inside_v6(address: Ipv4Addr, way: u8) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match way % 5 {
        0 => address.to_ipv6_mapped(),
        1 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        2 => Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        3 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        _ => Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5),
    }
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4.iter().any(|block| block.parse::<Ipv4Net>().unwrap().contains(&v4)),
        IpAddr::V6(v6) => SPECIAL_V6.iter().any(|block| block.parse::<Ipv6Net>().unwrap().contains(&v6)),
    }
}

#[test]
fn no_spelling_of_a_special_address_passes() {
    proptest!(config(2000), |(address in special(), parts in 0..4_u8, ways in any::<[u8; 4]>(), zeros in 0..3_usize, way in 0..6_u8)| {
        let host = disguised(&spelt(address, parts, ways, zeros), way);
        for url in [
            format!("https://{host}/hook"),
            format!("https://{host}:8443"),
            format!("HTTPS:\\\\{host}\\x"),
            format!(" https:/{host}"),
            format!("https://example.com@{host}/"),
            format!("https://a:b@{host}#@example.com"),
        ] {
            prop_assert!(check_url(&url, false).is_err(), "{url:?} for {address}");
        }
    });
}

#[test]
fn no_special_address_passes_inside_ipv6() {
    proptest!(config(2000), |(address in special(), way in 0..5_u8, zone in "(%25?[a-z0-9]{1,4})?")| {
        let inside = inside_v6(address, way);
        prop_assert!(!is_public(inside.into()), "{inside}");
        let [.., high, low] = inside.segments();
        let dotted = format!("[::ffff:{}.{}.{}.{}{zone}]", high >> 8, high & 0xFF, low >> 8, low & 0xFF);
        for host in [format!("[{inside}{zone}]"), format!("[{:x}]", u128::from(inside)), dotted] {
            let url = format!("https://{host}/");
            prop_assert!(way == 4 && host.starts_with("[::ffff") || check_url(&url, false).is_err(), "{url}");
        }
    });
}

#[test]
fn an_address_is_public_only_outside_of_every_special_block() {
    let v6 = (proptest::sample::select(&SPECIAL_V6[..]), any::<u128>()).prop_map(|(block, bits)| {
        let block: Ipv6Net = block.parse().unwrap();
        Ipv6Addr::from(u128::from(block.network()) | (bits & u128::from(block.hostmask())))
    });
    proptest!(config(2000), |(v4 in prop_oneof![any::<Ipv4Addr>(), special()], v6 in prop_oneof![any::<Ipv6Addr>(), v6])| {
        prop_assert_eq!(is_public(v4.into()), !is_special(v4.into()), "{}", v4);
        prop_assert!(!(is_public(v6.into()) && is_special(v6.into())), "{v6}");
        // What holds an IPv4 address is as public as that.
        prop_assert_eq!(is_public(inside_v6(v4, 0).into()), is_public(v4.into()));
        prop_assert_eq!(is_public(inside_v6(v4, 3).into()), is_public(v4.into()));
        prop_assert_eq!(is_public(inside_v6(v4, 4).into()), is_public(v4.into()));
    });
}

#[test]
fn a_url_that_passes_is_encrypted_bears_no_password_and_leads_to_no_private_place() {
    let host = "(localhost|[a-z0-9-]{0,5}\\.localhost|LOCALHOST|[0-9a-fx.]{1,12}|\\[[0-9a-f:.]{0,20}\\]|[a-z]{1,5}\\.com)\\.{0,2}";
    let near = (
        "(https|http|HTTPS|ftp|file)",
        "(://|:|:///|:\\\\)",
        "([a-z]{0,3}(:[a-z]{0,3})?@){0,2}",
        host,
        "(:[0-9]{0,6})?",
        "[/?#@a-z]{0,5}",
    )
        .prop_map(|(scheme, slashes, user, host, port, rest)| {
            format!("{scheme}{slashes}{user}{host}{port}{rest}")
        });
    proptest!(config(3000), |(text in prop_oneof![9 => near, 1 => any::<String>()])| {
        let _ = check_url(&text, true);
        let Ok(url) = check_url(&text, false) else { return Ok(()) };
        prop_assert_eq!(url.scheme(), "https");
        prop_assert!(url.username().is_empty() && url.password().is_none(), "{text}");
        match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.to_lowercase();
                let is_local = name.split('.').rfind(|part| !part.is_empty()) == Some("localhost");
                prop_assert!(!is_local && name.parse::<IpNet>().is_err() && name.parse::<IpAddr>().is_err(), "{text}");
            }
            Some(Host::Ipv4(v4)) => prop_assert!(!is_special(v4.into()), "{text}"),
            Some(Host::Ipv6(v6)) => prop_assert!(!is_special(v6.into()), "{text}"),
            None => prop_assert!(false, "{text}"),
        }
    });
}
