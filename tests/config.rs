//! probe
use ftagent::config::Config;
use std::path::Path;
#[test]
fn probe() {
    let n = 1_048_576;
    for (name, text) in [
        ("dotted", "a.".repeat(n / 2) + "a = 1"),
        ("header", format!("[{}a]", "a.".repeat(n / 2 - 2))),
        ("header2", format!("[[{}a]]", "a.".repeat(n / 2 - 2))),
        ("arrays", format!("a = {}", "[".repeat(n - 10))),
        ("inline", format!("a = {}", "{a=".repeat(n / 3 - 10))),
        (
            "dottedinline",
            format!("a = {{ {}a = 1 }}", "a.".repeat(n / 2 - 10)),
        ),
        (
            "mixnest",
            (0..70)
                .map(|i| {
                    format!(
                        "[{}x{i}]\n{}b = {}1{}\n",
                        "a.".repeat(70),
                        "c.".repeat(70),
                        "{c.c.c.c.c.c.c.c.c=".repeat(70),
                        "}".repeat(70)
                    )
                })
                .collect::<String>(),
        ),
        ("eq", "=\n".repeat(n / 2)),
        ("open", "[\n".repeat(n / 2)),
        ("quote", "\"\n".repeat(n / 2)),
        ("dup", "a=1\n".repeat(n / 4)),
        (
            "tables",
            (0..n / 10).map(|i| format!("[a{i}]\n")).collect::<String>(),
        ),
        (
            "keys",
            format!(
                "[api]\n{}",
                (0..n / 12).map(|i| format!("k{i}=1\n")).collect::<String>()
            ),
        ),
        ("junk", "a b c\n".repeat(n / 6)),
        ("str", "\"\"\"".repeat(n / 3)),
        (
            "num",
            format!("detection.pps_threshold = {}", "1".repeat(n - 40)),
        ),
        (
            "arr",
            format!("capture.interfaces = [{}]", "\"a\",".repeat(n / 4 - 40)),
        ),
    ] {
        for path in ["a.toml", "a.json"] {
            let start = ftagent::clock::monotonic();
            let r = Config::of_text(Path::new(path), &text);
            let e = r.err().map(|e| {
                e.problems()
                    .iter()
                    .take(2)
                    .map(|p| p.to_string().chars().take(150).collect::<String>())
                    .collect::<Vec<_>>()
            });
            println!("{name} {path} {:?} {e:?}", start.elapsed());
        }
    }
    for (name, text) in [
        ("deep", format!("{{\"x\": {}", "[".repeat(n - 10))),
        (
            "deep2",
            format!(
                "{{\"x\": {}1{}}}",
                "[".repeat(n / 2 - 10),
                "]".repeat(n / 2 - 10)
            ),
        ),
        (
            "deepkey",
            format!(
                "{{\"api_key\": {}1{}}}",
                "[".repeat(n / 2 - 10),
                "]".repeat(n / 2 - 10)
            ),
        ),
        (
            "many",
            format!("{{{}\"a\":1}}", "\"a\":1,".repeat(n / 6 - 10)),
        ),
        ("top", "\"ft_live_MARKER\"".to_string()),
        ("bad", "{\n\"api_key\": \"ft_live_MARKER\n}".to_string()),
        ("bad2", "{\n\"api_key\": ft_live_MARKER\n}".to_string()),
    ] {
        let start = ftagent::clock::monotonic();
        let r = Config::of_text(Path::new("a.json"), &text);
        println!(
            "{name} {:?} {:?}",
            start.elapsed(),
            r.map(|c| c
                .notices()
                .iter()
                .map(|n| n.chars().take(100).collect::<String>())
                .collect::<Vec<_>>())
                .map_err(|e| e.to_string())
        );
    }
}
