//! The types of properties that nobody declared, from how an expression uses them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator as Operator, Expr, FunctionArg, FunctionArgExpr, UnaryOperator,
};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Truth,
    Time,
}

impl Kind {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Truth => "true or false",
            Self::Time => "a time",
        }
    }
}

/// Functions whose first argument is a number, and those whose first argument is a text.
const OF_NUMBERS: [&str; 17] = [
    "abs", "ceil", "exp", "floor", "greatest", "isnan", "least", "ln", "log", "log10", "log2",
    "power", "pow", "round", "signum", "sqrt", "trunc",
];
const OF_TEXTS: [&str; 20] = [
    "btrim",
    "char_length",
    "character_length",
    "concat",
    "contains",
    "ends_with",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "regexp_like",
    "replace",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "upper",
];

/// Adds to `known` the kinds of columns that follow from their use.
///
/// # Errors
/// The name and both kinds of a column that is used as two.
pub(super) fn infer(
    expression: &Expr,
    known: &mut BTreeMap<String, Kind>,
) -> Result<(), (String, Kind, Kind)> {
    // A column can get its kind from one that comes later in the text: look until nothing new is found.
    loop {
        let before = known.len();
        let mut uses = Uses {
            known,
            conflict: None,
        };
        uses.hint(expression, Kind::Truth);
        let _ = ast::visit_expressions(expression, |node| {
            uses.look(node);
            ControlFlow::<()>::Continue(())
        });
        if let Some(conflict) = uses.conflict {
            return Err(conflict);
        }
        if known.len() == before {
            return Ok(());
        }
    }
}

struct Uses<'k> {
    known: &'k mut BTreeMap<String, Kind>,
    conflict: Option<(String, Kind, Kind)>,
}

impl Uses<'_> {
    fn hint(&mut self, expression: &Expr, kind: Kind) {
        match expression {
            Expr::Nested(inner) => self.hint(inner, kind),
            Expr::Identifier(ident) => match self.known.get(&ident.value) {
                None => {
                    self.known.insert(ident.value.clone(), kind);
                }
                // Texts are compared with times and numbers with truths all the time: the engine coerces declared ones.
                Some(Kind::Number | Kind::Text) if matches!(kind, Kind::Number | Kind::Text) => {
                    let earlier = self.known[&ident.value];
                    if earlier != kind {
                        self.conflict
                            .get_or_insert((ident.value.clone(), earlier, kind));
                    }
                }
                Some(_) => {}
            },
            _ => {}
        }
    }

    fn kind(&self, expression: &Expr) -> Option<Kind> {
        match expression {
            Expr::Nested(inner) => self.kind(inner),
            Expr::Identifier(ident) => self.known.get(&ident.value).copied(),
            Expr::Value(value) => match &value.value {
                ast::Value::Number(..) => Some(Kind::Number),
                ast::Value::SingleQuotedString(_) => Some(Kind::Text),
                ast::Value::Boolean(_) => Some(Kind::Truth),
                _ => None,
            },
            Expr::UnaryOp {
                op: UnaryOperator::Minus | UnaryOperator::Plus,
                ..
            } => Some(Kind::Number),
            Expr::BinaryOp { op, .. } if is_arithmetic(op) => Some(Kind::Number),
            Expr::Function(call) => {
                let name = call.name.to_string().to_lowercase();
                let of_length = ["length", "char_length", "character_length", "strpos"]
                    .contains(&name.as_str());
                let truth = [
                    "contains",
                    "starts_with",
                    "ends_with",
                    "regexp_like",
                    "isnan",
                ]
                .contains(&name.as_str());
                if truth {
                    Some(Kind::Truth)
                } else if of_length || OF_NUMBERS.contains(&name.as_str()) {
                    Some(Kind::Number)
                } else {
                    OF_TEXTS.contains(&name.as_str()).then_some(Kind::Text)
                }
            }
            _ => None,
        }
    }

    fn same(&mut self, a: &Expr, b: &Expr) {
        if let Some(kind) = self.kind(a) {
            self.hint(b, kind);
        }
        if let Some(kind) = self.kind(b) {
            self.hint(a, kind);
        }
    }

    fn look(&mut self, node: &Expr) {
        match node {
            Expr::BinaryOp { left, op, right } => match op {
                Operator::And | Operator::Or => [left, right]
                    .into_iter()
                    .for_each(|side| self.hint(side, Kind::Truth)),
                Operator::StringConcat => [left, right]
                    .into_iter()
                    .for_each(|side| self.hint(side, Kind::Text)),
                op if is_arithmetic(op) => [left, right]
                    .into_iter()
                    .for_each(|side| self.hint(side, Kind::Number)),
                _ => self.same(left, right),
            },
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.hint(expr, Kind::Truth),
            Expr::UnaryOp {
                op: UnaryOperator::Minus | UnaryOperator::Plus,
                expr,
            } => self.hint(expr, Kind::Number),
            Expr::IsTrue(expr)
            | Expr::IsFalse(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsNotFalse(expr) => {
                self.hint(expr, Kind::Truth);
            }
            Expr::InList { expr, list, .. } => list.iter().for_each(|entry| self.same(expr, entry)),
            Expr::Between {
                expr, low, high, ..
            } => {
                self.same(expr, low);
                self.same(expr, high);
            }
            Expr::Like { expr, pattern, .. }
            | Expr::ILike { expr, pattern, .. }
            | Expr::SimilarTo { expr, pattern, .. } => {
                self.hint(expr, Kind::Text);
                self.hint(pattern, Kind::Text);
            }
            Expr::Function(call) => self.look_at_call(call),
            Expr::Case {
                operand: None,
                conditions,
                ..
            } => {
                conditions
                    .iter()
                    .for_each(|branch| self.hint(&branch.condition, Kind::Truth));
            }
            Expr::Case {
                operand: Some(operand),
                conditions,
                ..
            } => {
                conditions
                    .iter()
                    .for_each(|branch| self.same(operand, &branch.condition));
            }
            _ => {}
        }
    }

    fn look_at_call(&mut self, call: &ast::Function) {
        let name = call.name.to_string().to_lowercase();
        let ast::FunctionArguments::List(list) = &call.args else {
            return;
        };
        let arguments: Vec<&Expr> = list
            .args
            .iter()
            .filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument),
                _ => None,
            })
            .collect();
        if OF_NUMBERS.contains(&name.as_str()) {
            arguments
                .iter()
                .for_each(|argument| self.hint(argument, Kind::Number));
        } else if OF_TEXTS.contains(&name.as_str()) {
            arguments
                .iter()
                .take(1)
                .for_each(|argument| self.hint(argument, Kind::Text));
        } else if matches!(name.as_str(), "coalesce" | "nullif" | "nvl") {
            arguments
                .windows(2)
                .for_each(|pair| self.same(pair[0], pair[1]));
        }
    }
}

fn is_arithmetic(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    )
}
